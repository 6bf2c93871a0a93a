"""The tracking group: what is refused, and that addresses do not depend on the working directory."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from adapter_exp.tracking.specs import TrackingConfig, resolve_uri


@pytest.mark.parametrize("name", ["mlflow", "none"])
def test_shipped_files_are_valid(name: str):
    text = (Path(__file__).parents[2] / "conf" / "tracking" / f"{name}.yaml").read_text(encoding="utf-8")
    assert TrackingConfig.model_validate(yaml.safe_load(text)).kind == name


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("file:///tmp/mlruns", "plain folders"),
        ("./mlruns", "plain folders"),
        ("sqlite://", "no database file"),
        ("sqlite:///:memory:", "no database file"),
        ("postgresql://host/db", "not a store"),
        ("http://", "not a store"),
        ("https://me:secret@host", "MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_other_stores_are_refused_in_one_line(uri: str, message: str):
    with pytest.raises(ValidationError, match=message) as caught:
        TrackingConfig(uri=uri)
    assert "\n" not in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "https://mlflow.example.org/path"])
def test_servers_pass_through(uri: str):
    assert resolve_uri(TrackingConfig(uri=uri).uri, Path("outputs")) == uri


def test_database_addresses_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_uri(None, Path("outputs")) == f"sqlite:///{tmp_path}/outputs/mlflow.db"
    assert resolve_uri("sqlite:///runs.db", Path("outputs")) == f"sqlite:///{tmp_path}/runs.db"
    assert resolve_uri("sqlite:////data/runs.db", Path("outputs")) == "sqlite:////data/runs.db"
