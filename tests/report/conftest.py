"""The record that tables and plots are drawn from."""

from __future__ import annotations

import pytest
from record_samples import finished_record

from adapter_exp.tracking.record import RecordData


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RecordData:
    """A finished run: a gain on nerus, a failed gate on terra."""
    return finished_record(tmp_path_factory.mktemp("report")).data
