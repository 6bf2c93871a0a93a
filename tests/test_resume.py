"""Runs that were killed, stopped or held by another process, and what ``resume=auto`` makes of them."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from experiment_samples import config, record, start

from adapter_exp.errors import UserError
from adapter_exp.experiment import run_experiment
from adapter_exp.files import sha256_file
from adapter_exp.resume import find_unfinished, locked
from adapter_exp.tracking.record import RunRecord

pytestmark = pytest.mark.usefixtures("one_thread")

# Long enough to be caught in the middle: 24 steps with a checkpoint after each.
LONG = (
    "trainer.epochs=12",
    "trainer.save_steps=1",
    "adapter.r=4",
    "adapter.dropout=0.1",
    "eval.validation=false",
)
TRACKED = ("tracking=mlflow", "tracking.log_system_metrics=false")


def wait_for_checkpoint(process: subprocess.Popen[str], root: Path) -> Path:
    """The run's folder, once its first checkpoint is there and training goes on."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        found = list((root / "outputs").glob("*/checkpoints/step-*/files.json"))
        if found:
            return found[0].parents[2]
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("no checkpoint in four minutes")


def adapter_hash(run_dir: Path) -> str:
    return sha256_file(run_dir / "adapter" / "adapter_model.safetensors")


def mlflow_losses(root: Path) -> list[tuple[str, str, list[int]]]:
    """(name, status, steps of the loss curve) of every run in MLflow."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root}/outputs/mlflow.db")
    experiment = client.get_experiment_by_name("adapter_exp")
    assert experiment is not None
    return [
        (
            str(run.info.run_name),
            str(run.info.status),
            sorted(metric.step for metric in client.get_metric_history(run.info.run_id, "training/loss")),
        )
        for run in client.search_runs([experiment.experiment_id])
    ]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, capsys):
    """kill -9 in the middle of training; the next command goes on in the same folder and the same MLflow run."""
    process = start(tmp_path, *LONG, *TRACKED)
    killed = wait_for_checkpoint(process, tmp_path)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert record(killed)["status"] == "running"
    assert not (killed / "adapter").exists()
    run_experiment(config(tmp_path, *LONG, *TRACKED, "resume=auto"), tmp_path / "outputs" / "second")
    assert "going on with" in capsys.readouterr().out
    assert not (tmp_path / "outputs" / "second").exists()
    run_experiment(config(tmp_path, *LONG), tmp_path / "outputs" / "straight")
    resumed, straight = record(killed), record(tmp_path / "outputs" / "straight")
    assert resumed["status"] == "ok"
    assert resumed["training"]["loss"] == straight["training"]["loss"]
    assert resumed["training"]["steps"] == 24
    assert resumed["evaluation"] == straight["evaluation"]
    assert adapter_hash(killed) == adapter_hash(tmp_path / "outputs" / "straight")
    assert mlflow_losses(tmp_path) == [(killed.name, "FINISHED", list(range(1, 25)))]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_saves_and_can_be_taken_up(tmp_path, stop):
    process = start(tmp_path, *LONG, *TRACKED)
    stopped = wait_for_checkpoint(process, tmp_path)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "cancelled"
    assert record(stopped)["status"] == "cancelled"
    assert record(stopped)["error"]["type"] == "Cancelled"
    assert list((stopped / "checkpoints").glob("step-*"))
    assert [status for _, status, _ in mlflow_losses(tmp_path)] == ["KILLED"]
    resumed = start(tmp_path, *LONG, *TRACKED, "resume=auto")
    printed, errors = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, errors
    assert "going on with" in printed
    assert record(stopped)["status"] == "ok"
    assert record(stopped)["error"] is None
    assert mlflow_losses(tmp_path) == [(stopped.name, "FINISHED", list(range(1, 25)))]
    run_experiment(config(tmp_path, *LONG), tmp_path / "outputs" / "straight")
    assert adapter_hash(stopped) == adapter_hash(tmp_path / "outputs" / "straight")


def unfinished(root: Path, name: str, *more: str, status: str = "cancelled") -> Path:
    """A run folder as a stopped run of this configuration leaves it."""
    settings = config(root, *more)
    folder = root / "outputs" / name
    made = RunRecord.create(folder, run_id=name, config={}, config_hash=settings.sha256, seed=0)
    if status != "running":
        made.finish(status)  # type: ignore[arg-type]  # one of the record's own words
    return folder


def test_nothing_unfinished_starts_anew_and_says_so(tmp_path, capsys):
    data = run_experiment(config(tmp_path, "adapter=none", "resume=auto"), tmp_path / "outputs" / "new")
    assert data["status"] == "ok"
    assert "no unfinished run of this configuration" in capsys.readouterr().out
    assert find_unfinished(tmp_path / "outputs", data["config_hash"]) is None


def test_which_run_is_taken_up(tmp_path):
    outputs = tmp_path / "outputs"
    wanted = config(tmp_path, "resume=auto").sha256
    unfinished(tmp_path, "other-config", "seed=1")
    assert find_unfinished(outputs, wanted) is None
    (outputs / "damaged").mkdir()
    (outputs / "damaged" / "record.json").write_text('{"config_hash": ', encoding="utf-8")
    assert find_unfinished(outputs, wanted) is None
    # Resume, tracking and places are no part of the identity.
    older = unfinished(tmp_path, "older", "tracking=mlflow", "resume=never", f"cache_dir={tmp_path}/elsewhere")
    assert find_unfinished(outputs, wanted) == older
    time.sleep(0.01)
    newer = unfinished(tmp_path, "newer", status="running")
    assert find_unfinished(outputs, wanted) == newer
    with locked(newer):  # as a living process does
        assert find_unfinished(outputs, wanted) == older
    assert find_unfinished(outputs, wanted) == newer


def test_a_folder_that_holds_a_run_is_neither_overwritten_nor_removed(tmp_path):
    """A fixed ``hydra.run.dir`` gives every command the same folder."""
    folder = unfinished(tmp_path, "fixed", "adapter=none")
    before = (folder / "record.json").read_bytes()
    for more in (("adapter=none",), ("adapter=none", "task.path=/nowhere"), ("adapter=none", "seed=1", "resume=auto")):
        with pytest.raises(UserError):
            run_experiment(config(tmp_path, *more), folder)
        assert (folder / "record.json").read_bytes() == before
    assert run_experiment(config(tmp_path, "adapter=none", "resume=auto"), folder)["status"] == "ok"
    assert record(folder)["status"] == "ok"


def test_a_held_folder_is_refused(tmp_path):
    folder = tmp_path / "outputs" / "held"
    with locked(folder), pytest.raises(UserError, match="another process is working in this folder"):
        run_experiment(config(tmp_path, "adapter=none"), folder)
