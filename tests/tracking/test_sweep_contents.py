"""What MLflow is told of a sweep: axes, table, description, saved view; no store needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recorded_sweeps import NAME, finished_job, sweep_folder

from adapter_exp.sweep.ledger import Ledger
from adapter_exp.sweep.plan import axes_of
from adapter_exp.tracking import contents, sweep_page
from adapter_exp.tracking.record import RunRecord
from adapter_exp.tracking.sweep_contents import (
    Child,
    axis_parameters,
    description,
    headline_metrics,
    read_children,
    status,
    summary_table,
)


@pytest.fixture
def children(tmp_path: Path) -> list[Child]:
    folder = sweep_folder(tmp_path)
    return read_children(folder, Ledger(folder).jobs())


def _with(child: Child, **changes) -> Child:
    assert child.record is not None
    config = {**child.record.data["config"], **changes}
    return Child(child.job, RunRecord(child.record.run_dir, {**child.record.data, "config": config}))


def test_axes_are_what_differs_between_jobs(children: list[Child]):
    assert axes_of([child.job.overrides for child in children]) == {"adapter.r": ["4", "16"], "seed": ["0", "1"]}


def test_an_axis_that_chooses_a_file_is_shown_by_what_it_chose(children: list[Child]):
    changed = [
        _with(children[0], adapter={"kind": "lora", "r": 8}, trainer={"epochs": 1, "batch_size": 8}),
        _with(children[1], adapter={"kind": "mlp", "hidden_dim": 64}, trainer={"epochs": 2, "batch_size": 8}),
        children[3],  # without a record
    ]
    assert axis_parameters(["adapter", "seed"], changed) == ["adapter.kind", "seed"]
    assert axis_parameters(["trainer"], changed) == ["trainer.epochs"]
    assert "adapter.hidden_dim" in axis_parameters(["experiment"], changed)
    assert axis_parameters(["+adapter.r"], changed) == ["adapter.r"]
    assert axis_parameters(["adapter", "adapter.r", "seed", "experiment"], []) == ["adapter.kind", "adapter.r", "seed"]


def test_the_metric_to_choose_by_comes_first(children: list[Child]):
    assert headline_metrics(children)[:4] == [
        "validation/adapted/nerus/f1",
        "evaluation/adapted/nerus/f1",
        "evaluation/change/nerus/f1",
        "evaluation/change/terra/accuracy_loglik",
    ]
    other = [_with(child, eval={"objective": "nerus/precision"}) for child in children[:3]]
    assert headline_metrics(other)[0] == "evaluation/adapted/nerus/f1"  # it was not measured on validation
    assert headline_metrics([children[3]]) == []


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (["ok", "ok"], "FINISHED"),
        (["ok", "oom"], "FAILED"),
        (["ok", "failed", "running"], "KILLED"),
        (["ok", "cancelled"], "KILLED"),
        ([], "KILLED"),
    ],
)
def test_the_status_of_a_sweep_that_nothing_runs(tmp_path: Path, states, expected):
    ledger = Ledger(tmp_path)
    for number, state in enumerate(states):
        ledger.append(f"h{number}", number, state)
    assert status(ledger.jobs()) == expected


def test_the_table_is_json_also_with_odd_values(children: list[Child]):
    table = summary_table(children, ["adapter.r", "missing"])
    assert table == json.loads(json.dumps(table, allow_nan=False))
    assert {len(row) for row in table["data"]} == {len(table["columns"])} and len(table["data"]) == 4


def test_a_long_description_ends_with_a_whole_row(tmp_path: Path):
    ledger = Ledger(tmp_path)
    for number in range(39):
        ledger.append(f"h{number}", number, "queued", overrides=[f"seed={number}"])
        ledger.append(f"h{number}", number, "failed", error="ValueError: a | b\n" + "x" * 300)
    text = description("s", ["seed=range(39)", "x" * 3000], read_children(tmp_path, ledger.jobs()), ["seed"], "#/link")
    assert len(text) <= contents.MAX_TAG
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {rows[0].count("|")}
    assert text.endswith("The rest is in `summary.json`.")


class _Experiments:
    """The two calls of MLflow's client that views need."""

    def __init__(self, tags: dict[str, str]) -> None:
        self.tags = tags

    def get_experiment(self, experiment_id: str) -> _Experiments:
        return self

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        self.tags = {**self.tags, key: value}

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        self.tags = {name: value for name, value in self.tags.items() if name != key}


def test_the_oldest_views_of_many_sweeps_are_removed_and_a_users_own_never(monkeypatch: pytest.MonkeyPatch):
    own = {f"{sweep_page.VIEW_TAG}mine": json.dumps({"name": "mine", "createdAt": 1, "state": "{}"}), "other": "x"}
    client, clock = _Experiments(own), [1000.0]
    monkeypatch.setattr(sweep_page.time, "time", lambda: clock[0])

    def save(number: int) -> None:
        clock[0] += 1
        sweep_page.save_view(client, "1", name=f"s{number}", parent_run_id=f"{number}", parameters=["seed"], metrics=[])

    for number in range(sweep_page.MAX_VIEWS + 3):
        save(number)
    kept = sweep_page.saved_views(client.tags)
    assert kept == [f"sweep-{number}" for number in range(sweep_page.MAX_VIEWS + 2, 2, -1)]
    assert own.items() <= client.tags.items()
    save(5)  # its end: the view is renewed and keeps its age
    assert sweep_page.saved_views(client.tags) == kept


def test_a_view_fits_the_tag_that_holds_it():
    names = [f"evaluation/adapted/some_task/some_metric_{number}" for number in range(60)]
    client = _Experiments({})
    sweep_page.save_view(client, "1", name=NAME, parent_run_id="f" * 32, parameters=names, metrics=names)
    (value,) = client.tags.values()
    assert len(value) <= 5000  # of the column in MLflow's database


def test_a_job_without_a_run_has_no_id(tmp_path: Path, children: list[Child]):
    finished_job(tmp_path / "x", 0, r=1, seed=0, f1=0.1)
    assert children[3].run_id is None and children[0].run_id is None
