"""Several processes that start on a new tracking database at the same moment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROCESSES = 8
SCRIPT = """
import sys
from pathlib import Path
import mlflow, mlflow.store.tracking.sqlalchemy_store
from forking import at_once
from record_samples import finished_record
from adapter_exp.sweep.ledger import Ledger
from adapter_exp.tracking.mlflow_log import MlflowRun
from adapter_exp.tracking.specs import TrackingConfig
from adapter_exp.tracking.sweep_log import open_parent

root, count = Path(sys.argv[1]), int(sys.argv[2])
config = TrackingConfig(log_system_metrics=False)

def sweep(number, begin):
    name = f"sweep-{number}"
    sweep_dir = root / name
    record = finished_record(sweep_dir / "0", run_id=f"{name}-0", steps=5)
    ledger = Ledger(sweep_dir)
    ledger.append("h", 0, "queued", overrides=["seed=0"])
    ledger.append("h", 0, "ok", objective=0.5)
    begin()
    parent = open_parent(
        config, output_root=root, name=name, overrides=["seed=0"], axes={"seed": ["0"]}, go_on_with=None
    )
    run = MlflowRun.open(record, config, output_root=root, parent_run_id=parent.run_id)
    run.log_loss(6, 1.0)
    run.finish()
    parent.finish(status="FINISHED", sweep_dir=sweep_dir, jobs=ledger.jobs())
    return run.reason or parent.reason or f"{parent.run_id} {run.run_id}"

at_once(root, count, sweep)
"""


@pytest.mark.slow
def test_eight_processes_start_on_a_new_database_at_once(tmp_path: Path):
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), str(PROCESSES)]
    subprocess.run(command, env=environment, check=True, timeout=280)
    answers = [(tmp_path / f"answer-{number}").read_text().split() for number in range(PROCESSES)]
    assert [len(answer) for answer in answers] == [2] * PROCESSES, answers
    assert len({run_id for answer in answers for run_id in answer}) == 2 * PROCESSES

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [found for found in client.search_experiments() if found.name == "adapter_exp"]
    for number, (parent, child) in enumerate(answers):
        runs = [client.get_run(parent), client.get_run(child)]
        assert [run.info.status for run in runs] == ["FINISHED"] * 2
        assert [run.info.experiment_id for run in runs] == [experiment.experiment_id] * 2
        assert runs[1].data.tags["mlflow.parentRunId"] == parent
        assert len(client.get_metric_history(child, "training/loss")) == 6
        record = json.loads((tmp_path / f"sweep-{number}" / "0" / "record.json").read_text())
        assert record["tracking"]["mlflow"] == {
            "logged": True,
            "run_id": child,
            "reason": None,
            "parent_run_id": parent,
        }
