"""Runs in a real MLflow store (SQLite in a temporary folder)."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from record_samples import finished_record

from adapter_exp.tracking import contents
from adapter_exp.tracking.mlflow_log import MlflowRun
from adapter_exp.tracking.record import RunRecord, load_record
from adapter_exp.tracking.replay import main as replay_main
from adapter_exp.tracking.specs import TrackingConfig

LOCAL = TrackingConfig(log_system_metrics=False)


def _live(run_dir: Path, root: Path, config: TrackingConfig = LOCAL) -> tuple[RunRecord, MlflowRun]:
    """Track a finished record as a live run: opened, losses sent, closed."""
    record = RunRecord.load(run_dir)
    run = MlflowRun.open(record, config, output_root=root)
    for point in record.data["training"]["loss"]:
        run.log_loss(point["step"], point["loss"])
    run.finish()
    return record, run


def _seen(client, run_id: str) -> dict:
    """All that MLflow shows of a run, without ids and times."""
    run = client.get_run(run_id)
    return {
        "status": run.info.status,
        "name": run.info.run_name,
        "started": run.info.start_time,
        "parameters": run.data.params,
        "metrics": run.data.metrics,
        "tags": run.data.tags,
        "loss": sorted(
            (point.step, point.value) for point in client.get_metric_history(run_id, contents.TRAINING_LOSS)
        ),
        "datasets": sorted((entry.dataset.name, entry.dataset.digest) for entry in run.inputs.dataset_inputs),
        "artifacts": sorted(_artifacts(client, run_id)),
    }


def _artifacts(client, run_id: str, path: str | None = None) -> list[str]:
    found = []
    for entry in client.list_artifacts(run_id, path):
        found += _artifacts(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return found


def test_a_run_shows_all_that_the_record_holds(run_dir: Path, root: Path, client):
    record, run = _live(run_dir, root)
    seen = _seen(client, str(run.run_id))
    assert (seen["status"], seen["name"], run.reason) == ("FINISHED", "run-1", None)
    assert seen["parameters"]["adapter.r"] == "8"
    assert seen["metrics"]["evaluation/change/nerus/f1_low"] == pytest.approx(0.19)
    assert seen["loss"] == [(point["step"], point["loss"]) for point in record.data["training"]["loss"]]
    assert ("nerus", "a" * 36) in seen["datasets"]
    assert seen["artifacts"] == [
        "adapter/adapter_config.json",
        "config.yaml",
        "predictions/nerus.adapted.jsonl",
        "record.json",
    ]
    assert load_record(run_dir)["tracking"]["mlflow"] == {"logged": True, "run_id": run.run_id, "reason": None}


def test_replay_equals_live_logging(run_dir: Path, root: Path, client):
    _, live = _live(run_dir, root)
    shown = _seen(client, str(live.run_id))
    client.delete_run(live.run_id)
    assert replay_main([str(run_dir), "--root", str(root)]) == 0
    replayed = load_record(run_dir)["tracking"]["mlflow"]["run_id"]
    assert replayed != live.run_id and _seen(client, replayed) == shown


def test_a_run_of_a_sweep_keeps_its_parent_also_when_it_goes_on_and_when_it_is_replayed(
    run_dir: Path, root: Path, client
):
    experiment = client.create_experiment("adapter_exp")
    parents = [client.create_run(experiment).info.run_id for _ in range(2)]
    record = RunRecord.load(run_dir)
    MlflowRun.open(record, LOCAL, output_root=root, parent_run_id=parents[0])._buffer.close()  # the process dies
    first = record.data["tracking"]["mlflow"]
    assert (first["parent_run_id"], first["logged"]) == (parents[0], False)
    assert client.get_run(first["run_id"]).data.tags["mlflow.parentRunId"] == parents[0]
    again = MlflowRun.open(record, LOCAL, output_root=root, go_on_with=first["run_id"], parent_run_id=parents[1])
    assert client.get_run(again.run_id).data.tags["mlflow.parentRunId"] == parents[1]
    again.finish()
    assert load_record(run_dir)["tracking"]["mlflow"]["parent_run_id"] == parents[1]
    client.delete_run(again.run_id)
    assert replay_main([str(run_dir), "--root", str(root)]) == 0
    replayed = load_record(run_dir)["tracking"]["mlflow"]
    assert replayed["run_id"] != again.run_id and replayed["parent_run_id"] == parents[1]
    assert client.get_run(replayed["run_id"]).data.tags["mlflow.parentRunId"] == parents[1]


def test_replaying_twice_logs_once(run_dir: Path, root: Path, client, capsys: pytest.CaptureFixture[str]):
    for _ in range(2):
        assert replay_main([str(run_dir), "--root", str(root)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "already logged" in second and "already" not in first
    assert len(client.search_runs([client.get_experiment_by_name("adapter_exp").experiment_id])) == 1


def test_replay_completes_a_run_whose_process_was_killed(tmp_path: Path, root: Path, client):
    record = RunRecord.create(root / "cut", run_id="cut", config={}, config_hash="h", seed=0)
    run = MlflowRun.open(record, LOCAL, output_root=root)
    run.log_loss(1, 2.0)
    run._buffer.close()  # the process dies here: the loss is out, the run stays open
    record.update("training", {"loss": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]})
    assert client.get_run(run.run_id).info.status == "RUNNING"
    assert replay_main([str(root / "cut"), "--root", str(root)]) == 0
    seen = _seen(client, str(run.run_id))
    assert (seen["status"], seen["loss"]) == ("KILLED", [(1, 2.0), (2, 1.0)])


def test_a_failed_run_is_closed_as_failed_with_its_traceback(root: Path, client):
    record = RunRecord.create(root / "bad", run_id="bad", config={}, config_hash="h", seed=0)
    run = MlflowRun.open(record, LOCAL, output_root=root)
    try:
        raise RuntimeError("labels are all masked")
    except RuntimeError as error:
        record.fail(error)
    run.finish()
    assert client.get_run(run.run_id).info.status == "FAILED"
    text = Path(client.download_artifacts(run.run_id, "error.txt")).read_text(encoding="utf-8")
    assert "Traceback" in text and "labels are all masked" in text
    assert "labels are all masked" in client.get_run(run.run_id).data.tags["mlflow.note.content"]


@pytest.mark.parametrize(("status", "shown"), [("oom", "FAILED"), ("cancelled", "KILLED")])
def test_other_endings(root: Path, client, status, shown):
    record = RunRecord.create(root / status, run_id=status, config={}, config_hash="h", seed=0)
    run = MlflowRun.open(record, LOCAL, output_root=root)
    record.finish(status)
    run.finish()
    assert client.get_run(run.run_id).info.status == shown


def test_the_environment_cannot_send_a_run_elsewhere(run_dir: Path, root: Path, client, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    _, run = _live(run_dir, root)
    assert client.get_run(run.run_id).info.run_name == "run-1" and run.run_id != "0" * 32


def test_an_unreachable_server_costs_seconds_and_is_named(run_dir: Path, root: Path, monkeypatch, caplog):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    started = time.perf_counter()
    record, run = _live(run_dir, root, TrackingConfig(uri="http://127.0.0.1:9", log_system_metrics=False))
    assert time.perf_counter() - started < 20
    assert run.run_id is None and "127.0.0.1" in str(run.reason)
    assert record.data["status"] == "ok" and record.data["tracking"]["mlflow"]["logged"] is False
    assert len(caplog.messages) == 1 and len(caplog.messages[0].splitlines()) == 1


def test_a_file_that_is_no_database_is_refused_at_once(run_dir: Path, tmp_path: Path):
    (tmp_path / "notes.db").write_text("not a database" * 100)
    started = time.perf_counter()
    _, run = _live(run_dir, tmp_path, TrackingConfig(uri=f"sqlite:///{tmp_path}/notes.db"))
    assert time.perf_counter() - started < 5 and "not a database" in str(run.reason)


def test_a_tracker_that_breaks_in_the_middle_keeps_the_record(run_dir: Path, root: Path):
    record = RunRecord.load(run_dir)
    run = MlflowRun.open(record, LOCAL, output_root=root)
    run.log_loss(1, 2.0)
    (root / "mlflow.db").write_bytes(b"overwritten by a full disk" * 1000)
    run.finish()
    assert run.reason and load_record(run_dir)["tracking"]["mlflow"]["logged"] is False


def test_losses_arrive_while_the_run_goes_on(run_dir: Path, root: Path, client):
    run = MlflowRun.open(RunRecord.load(run_dir), LOCAL, output_root=root)
    started = time.perf_counter()
    for step in range(500):
        run.log_loss(step, 1.0 / (step + 1))
    run.log_loss(500, float("nan"))
    assert time.perf_counter() - started < 0.5  # 500 single calls would take 2.5 s or more
    deadline = time.monotonic() + 15
    while len(client.get_metric_history(run.run_id, "training/loss")) < 500 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert len(client.get_metric_history(run.run_id, "training/loss")) == 500
    run.finish()


def test_system_metrics_are_sampled(run_dir: Path, root: Path, client, monkeypatch):
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    run = MlflowRun.open(RunRecord.load(run_dir), TrackingConfig(), output_root=root)
    time.sleep(1.0)
    run.finish()
    assert any(name.startswith("system/cpu") for name in client.get_run(run.run_id).data.metrics)


def test_long_parameters_and_odd_names_get_in(root: Path, client):
    config = {"task": {"system": "я" * 7000, "labels": {"да/нет": 1, "a//b": 2}}, **{f"k{i}": i for i in range(250)}}
    record = finished_record(root / "odd", run_id="it's odd")
    record = RunRecord(record.run_dir, {**record.data, "config": config})
    record.update("evaluation", {"adapted": {"human eval": {"pass@1 (%)": {"value": 1, "low": 0, "high": None}}}})
    _, run = record, MlflowRun.open(record, LOCAL, output_root=root)
    run.finish()
    seen = _seen(client, str(run.run_id))
    assert run.reason is None
    assert len(seen["parameters"]["task.system"]) == 6000 and seen["parameters"]["k249"] == "249"
    assert seen["metrics"]["evaluation/adapted/human eval/pass_1 ___"] == 1.0


def test_kind_none_is_a_record_alone(run_dir: Path, tmp_path: Path):
    record, run = _live(run_dir, tmp_path / "empty", TrackingConfig(kind="none"))
    assert run.run_id is None and record.data["tracking"]["mlflow"]["reason"] == "tracking.kind is none"
    assert not (tmp_path / "empty").exists()


def test_replay_of_bad_input_is_one_line_and_exit_2(run_dir: Path, root: Path, capsys: pytest.CaptureFixture[str]):
    (root / "damaged").mkdir()
    (root / "damaged" / "record.json").write_text("{")
    cases = [
        [str(root / "nowhere")],
        [str(run_dir), str(root / "damaged")],
        [str(run_dir), "--uri", "file:///tmp/runs"],
        [str(run_dir), "--uri", f"sqlite:///{root}/damaged/record.json"],
    ]
    for arguments in cases:
        assert replay_main([*arguments, "--root", str(root)]) == 2
        output = capsys.readouterr()
        assert output.out == "" and len(output.err.splitlines()) == 1
    assert load_record(run_dir)["tracking"]["mlflow"]["logged"] is False


def test_a_data_set_that_another_run_logs_at_the_same_moment_is_shared(run_dir: Path, root: Path, client):
    from mlflow.store.tracking.dbmodels.models import SqlDataset
    from sqlalchemy import event

    other = shutil.copytree(run_dir, run_dir.with_name("run-2"))
    runs = []

    def another_run(*_) -> None:
        if not runs:
            runs.append(None)
            runs[0] = _live(other, root)[1]

    # MLflow has looked for the data sets by now, and has found none.
    event.listen(SqlDataset, "before_insert", another_run)
    try:
        runs.append(_live(run_dir, root)[1])
    finally:
        event.remove(SqlDataset, "before_insert", another_run)
    shown = [_seen(client, str(run.run_id)) for run in runs]
    assert [run.reason for run in runs] == [None, None]
    assert shown[0]["datasets"] == shown[1]["datasets"] and len(shown[0]["datasets"]) > 1
