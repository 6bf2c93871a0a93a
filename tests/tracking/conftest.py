"""A record made through the public API, as a real run makes it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from record_samples import finished_record

from adapter_exp.tracking.record import RunRecord


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Folder of a finished run with predictions, an adapter and Hydra's configuration."""
    folder = tmp_path / "outputs" / "run-1"
    finished_record(folder)
    for name, text in {
        "predictions/nerus.adapted.jsonl": json.dumps({"id": "1"}) + "\n",
        "adapter/adapter_config.json": "{}",
        ".hydra/config.yaml": "seed: 0\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    """A record that has just been started."""
    return RunRecord.create(tmp_path / "run", run_id="run-0", config={"seed": 0}, config_hash="abc", seed=0)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs; making one takes seconds, copying it none."""
    from adapter_exp.tracking.store import ensure_database

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    ensure_database(f"sqlite:///{file}")
    return file


@pytest.fixture
def root(tmp_path: Path, empty_database: Path) -> Path:
    """An output root with a fresh MLflow database in it."""
    folder = tmp_path / "outputs"
    folder.mkdir(exist_ok=True)
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def client(root: Path):
    """MLflow's client on the database of ``root``."""
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{root}/mlflow.db")
