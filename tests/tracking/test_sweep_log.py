"""A sweep in a real MLflow store: parent, children, page, and the same again by replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recorded_sweeps import NAME, sweep_folder

from adapter_exp.resume import locked
from adapter_exp.sweep.ledger import Ledger
from adapter_exp.tracking import sweep_page
from adapter_exp.tracking.mlflow_log import MlflowRun
from adapter_exp.tracking.record import RunRecord, load_record
from adapter_exp.tracking.replay import main as replay_main
from adapter_exp.tracking.specs import TrackingConfig
from adapter_exp.tracking.sweep_log import ParentRun, open_parent
from adapter_exp.tracking.ui import _pages

LOCAL = TrackingConfig(log_system_metrics=False)
AXES = {"adapter.r": ["4", "16"], "seed": ["0", "1"]}
OVERRIDES = ["adapter=lora", "adapter.r=4,16", "seed=0,1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ranks 4 and 16, seeds 0 and 1; the last job failed before it began a record."""
    return sweep_folder(tmp_path)


def _parent(root: Path, go_on_with: str | None = None, config: TrackingConfig = LOCAL) -> ParentRun:
    return open_parent(config, output_root=root, name=NAME, overrides=OVERRIDES, axes=AXES, go_on_with=go_on_with)


def _finish(parent: ParentRun, folder: Path, status="FAILED") -> None:
    parent.finish(status=status, sweep_dir=folder, jobs=Ledger(folder).jobs())


def _live(folder: Path, root: Path, parent: ParentRun) -> list[str]:
    """Log the sweep's runs below ``parent`` as live ones; MLflow's ids."""
    runs = [
        MlflowRun.open(RunRecord.load(folder / str(n)), LOCAL, output_root=root, parent_run_id=parent.run_id)
        for n in range(3)
    ]
    for run in runs:
        run.finish()
    return [str(run.run_id) for run in runs]


def _children(client, parent_id: str) -> set[str]:
    experiment = client.get_experiment_by_name("adapter_exp").experiment_id
    return {run.info.run_id for run in client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent_id}'")}


def _artifact(client, run_id: str, name: str) -> str:
    return Path(client.download_artifacts(run_id, name)).read_text(encoding="utf-8")


def _view(client) -> dict:
    tags = client.get_experiment_by_name("adapter_exp").tags
    (key,) = sweep_page.saved_views(tags)
    saved = json.loads(tags[sweep_page.VIEW_TAG + key])
    return {**saved, "state": json.loads(saved["state"])}


def test_the_parent_holds_table_counts_comparison_and_ledger(folder: Path, root: Path, client):
    parent = _parent(root)
    opened = client.get_run(parent.run_id)
    assert opened.info.status == "RUNNING" and opened.info.run_name == NAME
    assert opened.data.params == {"sweep.adapter.r": "4, 16", "sweep.seed": "0, 1"}
    children = _live(folder, root, parent)
    _finish(parent, folder)
    run = client.get_run(parent.run_id)
    assert run.info.status == "FAILED" and parent.reason is None
    assert run.data.metrics["jobs/ok"] == 3 and run.data.metrics["jobs/failed"] == 1
    assert run.data.metrics["objective/best"] == pytest.approx(0.27) and run.data.metrics["objective/best_job"] == 2
    assert _children(client, str(parent.run_id)) == set(children)
    table = json.loads(_artifact(client, parent.run_id, "summary.json"))
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [(row["adapter.r"], row["seed"], row["state"]) for row in rows[:3]] == [
        ("4", "0", "ok"),
        ("4", "1", "ok"),
        ("16", "0", "ok"),
    ]
    assert rows[2]["evaluation/adapted/nerus/f1"] == pytest.approx(0.26) and rows[2]["run_id"] == children[2]
    assert rows[3]["error"] == "RuntimeError: labels are all masked" and rows[3]["run_id"] is None
    assert _artifact(client, parent.run_id, "comparison/report.md") == "# Comparison\n"
    assert [entry.path for entry in client.list_artifacts(parent.run_id, "comparison/plots")] == [
        "comparison/plots/change.png"
    ]
    assert len(_artifact(client, parent.run_id, "ledger.jsonl").splitlines()) == 12
    note = run.data.tags["mlflow.note.content"]
    assert "3 ok, 1 failed" in note and "| 2 | ok | 16 | 0 | 0.27 |" in note and "viewStateShareKey=sweep-" in note


def test_mlflow_itself_reads_the_summary_as_a_table(folder: Path, root: Path, client):
    parent = _parent(root)
    _finish(parent, folder)
    _finish(_parent(root, go_on_with=parent.run_id), folder)  # its end came twice
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
    try:
        experiment = client.get_run(parent.run_id).info.experiment_id
        frame = client.load_table(experiment, "summary.json", run_ids=[parent.run_id])
    finally:
        mlflow.set_tracking_uri(before)
    assert list(frame["job"]) == [0, 1, 2, 3] and list(frame["adapter.r"])[:3] == [4, 4, 16]


def test_the_page_shows_what_varies_first_and_the_best_run_on_top(folder: Path, root: Path, client):
    parent = _parent(root)
    assert _view(client)["state"]["selectedColumns"][:2] == ["params.`adapter.r`", "params.`seed`"]  # while it runs
    _live(folder, root, parent)
    _finish(parent, folder)
    view = _view(client)
    state = view["state"]
    assert view["name"] == NAME
    assert state["selectedColumns"][:4] == [
        "params.`adapter.r`",
        "params.`seed`",
        "metrics.`validation/adapted/nerus/f1`",
        "metrics.`evaluation/adapted/nerus/f1`",
    ]
    assert state["columnOrder"][2:] == state["selectedColumns"]
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`validation/adapted/nerus/f1`", False)
    experiment = client.get_experiment_by_name("adapter_exp").experiment_id
    order = [f"{state['orderByKey']} DESC"]
    found = client.search_runs([experiment], state["searchFilter"], order_by=order)  # as the page asks for it
    assert [run.data.params["adapter.r"] for run in found] == ["16", "4", "4"]
    shown = dict(_pages(root))
    assert shown[f"sweep {NAME}"].endswith(f"viewStateShareKey=sweep-{parent.run_id}")
    assert shown["all runs"] == f"#/experiments/{experiment}/runs?workflowType=machine_learning"


def test_a_sweep_that_goes_on_keeps_its_parent_and_a_lost_one_is_made_anew(folder: Path, root: Path, client):
    first = _parent(root)
    _live(folder, root, first)
    _finish(first, folder)
    again = _parent(root, go_on_with=first.run_id)
    assert again.run_id == first.run_id and client.get_run(first.run_id).info.status == "RUNNING"
    _finish(again, folder, "FINISHED")
    assert client.get_run(first.run_id).info.status == "FINISHED"
    client.delete_run(first.run_id)
    anew = _parent(root, go_on_with=first.run_id)
    assert anew.run_id not in (None, first.run_id)
    _finish(anew, folder)
    assert len(_children(client, str(anew.run_id))) == 3  # the runs of the lost parent moved
    assert load_record(folder / "0")["tracking"]["mlflow"]["parent_run_id"] == anew.run_id


def test_the_environment_cannot_send_a_sweep_elsewhere(folder: Path, root: Path, client, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "another")
    parent = _parent(root)
    children = _live(folder, root, parent)
    _finish(parent, folder)
    assert client.get_run(parent.run_id).info.run_name == NAME
    assert _children(client, str(parent.run_id)) == set(children) and "0" * 32 not in children


def test_a_tracker_that_is_away_costs_one_warning(folder: Path, root: Path, monkeypatch, caplog):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    parent = _parent(root, config=TrackingConfig(uri="http://127.0.0.1:9"))
    _finish(parent, folder)
    assert parent.run_id is None and "127.0.0.1" in str(parent.reason) and len(caplog.messages) == 1


def test_a_tracker_that_breaks_in_the_middle_does_not_end_the_sweep(folder: Path, root: Path, caplog):
    parent = _parent(root)
    (root / "mlflow.db").write_bytes(b"overwritten by a full disk" * 1000)
    _finish(parent, folder)
    assert parent.run_id is None and parent.reason and len(caplog.messages) == 1


def test_kind_none_has_no_parent(folder: Path, tmp_path: Path):
    parent = _parent(tmp_path / "empty", config=TrackingConfig(kind="none"))
    _finish(parent, folder)
    assert (parent.run_id, parent.reason) == (None, "tracking.kind is none") and not (tmp_path / "empty").exists()


def test_replay_of_a_sweep_makes_the_parent_and_files_every_run_under_it(
    folder: Path, root: Path, client, capsys: pytest.CaptureFixture[str]
):
    assert replay_main([str(folder), "--root", str(root)]) == 0
    parent = json.loads((folder / "sweep.json").read_text())["mlflow"]["parent_run_id"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[-1] == f"{folder}: sweep of 4 jobs logged as {parent}"
    children = {load_record(folder / str(n))["tracking"]["mlflow"]["run_id"] for n in range(3)}
    assert _children(client, parent) == children
    run = client.get_run(parent)
    assert (run.info.run_name, run.info.status, run.data.metrics["jobs/ok"]) == (NAME, "FAILED", 3)
    assert _view(client)["state"]["selectedColumns"][:2] == ["params.`adapter.r`", "params.`seed`"]
    # Once more, also with the id forgotten: the parent is found, nothing is logged twice.
    (folder / "sweep.json").unlink()
    assert replay_main([str(folder), "--root", str(root)]) == 0
    new = [line for line in capsys.readouterr().out.splitlines() if "already logged" not in line]
    assert new == [lines[-1]]
    experiment = client.get_experiment_by_name("adapter_exp").experiment_id
    assert len(client.search_runs([experiment])) == 4


def test_replay_gives_runs_that_were_logged_alone_their_parent(folder: Path, root: Path, client):
    run = MlflowRun.open(RunRecord.load(folder / "1"), LOCAL, output_root=root)
    run.finish()
    assert replay_main([str(folder), "--root", str(root)]) == 0
    parent = json.loads((folder / "sweep.json").read_text())["mlflow"]["parent_run_id"]
    assert run.run_id in _children(client, parent) and len(_children(client, parent)) == 3


def test_a_sweep_that_is_running_is_not_replayed(folder: Path, root: Path, capsys: pytest.CaptureFixture[str]):
    with locked(folder):
        assert replay_main([str(folder), "--root", str(root)]) == 2
    output = capsys.readouterr()
    assert "a process is running this sweep" in output.err and output.out == ""


def test_a_damaged_record_does_not_keep_the_others_out(folder: Path, root: Path, client):
    (folder / "0" / "record.json").write_text("{")
    assert replay_main([str(folder), "--root", str(root)]) == 0
    parent = json.loads((folder / "sweep.json").read_text())["mlflow"]["parent_run_id"]
    assert len(_children(client, parent)) == 2
