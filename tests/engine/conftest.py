"""The models and rows that the proofs of equality share; one thread, so that the rounding is the same each time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from equality_models import Bases
from equality_samples import Prover


@pytest.fixture(scope="session")
def prover(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer) -> Prover:
    folder = tmp_path_factory.mktemp("equality")
    return Prover(Bases(folder / "models"), tiny_tokenizer, folder / "states")


@pytest.fixture(scope="session")
def bases(prover: Prover) -> Bases:
    return prover.bases


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(former)
