"""Jobs whose process dies, and sweeps that are told to end: everything is closed and says so."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from experiment_samples import start
from sweep_samples import Swept, sweep

from adapter_exp.files import conf_folder
from adapter_exp.sweep.ledger import Ledger
from adapter_exp.tracking.store import connect

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CRASH = """\
import os, sys
if {module!r} in sys.orig_argv:
    import adapter_exp.experiment as experiment
    run = experiment.run_experiment
    def crashing(config, *args, **kwargs):
        if config.seed == 1:
            os.abort()
        return run(config, *args, **kwargs)
    experiment.run_experiment = crashing
"""


@pytest.mark.parametrize(
    ("how", "module", "told"),
    [
        ("isolate=process", "adapter_exp.sweep.process", "SIGABRT"),
        ("hydra/launcher=joblib", "joblib.externals.loky.backend.popen_loky_posix", "its process died"),
    ],
    ids=["own process", "joblib"],
)
def test_a_process_that_crashes_takes_no_other_job_with_it(
    how: str, module: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(CRASH.format(module=module))  # what a broken driver would do
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{conf_folder().parent}")
    result = sweep(tmp_path, how, "seed=0,1", "tracking=mlflow", monkeypatch=monkeypatch)
    assert (result.exit_code, [job.state for job in result.jobs]) == (1, ["ok", "failed"])
    assert told in (result.jobs[1].error or "")
    assert result.record(1)["status"] == "failed"
    assert "JobProcessDied" in (result.folder / "1" / "error.txt").read_text(encoding="utf-8")
    assert "failed: job 1 seed=1: " in result.output
    assert statuses(tmp_path) == {"sweep": "FAILED", "sweep-0": "FINISHED", "sweep-1": "FAILED"}


@pytest.mark.parametrize("how", ["isolate=process", "isolate=none", "hydra/launcher=joblib"])
def test_sigterm_closes_the_sweep_and_it_goes_on(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "sweep"
    process = start(
        tmp_path,
        how,
        "seed=0,1",
        "trainer.epochs=50",
        "tracking=mlflow",
        f"hydra.sweep.dir={folder}",
        flags=["-m"],
    )
    until = time.monotonic() + 200
    while not list(folder.glob("*/checkpoints/*")) and time.monotonic() < until:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=240)
    assert (process.returncode, "Traceback" in errors) == (130, False), errors
    assert "go on" in output
    stopped = Ledger(folder).jobs()
    assert stopped[0].state == "cancelled"
    assert {job.state for job in stopped} <= {"cancelled", "queued"}
    assert set(statuses(tmp_path).values()) == {"KILLED"}
    assert Swept(folder, 130, output, errors).record(0)["status"] == "cancelled"


def statuses(root: Path) -> dict[str, str]:
    """MLflow's status of every run, by its name."""
    client, experiment = connect(f"sqlite:///{root / 'outputs' / 'mlflow.db'}", "adapter_exp")
    return {run.info.run_name: run.info.status for run in client.search_runs([experiment])}
