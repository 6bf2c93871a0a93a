"""Bad input is told, run by run, and never dropped in silence."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
from comparison.simulated import LORA, change_record, write_run

from adapter_exp.comparison.compare import compare_runs
from adapter_exp.comparison.runs import read_runs
from adapter_exp.errors import UserError
from adapter_exp.evaluation import gates
from adapter_exp.evaluation.predictions import read_predictions, write_predictions
from adapter_exp.sweep.ledger import Ledger


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sweep of two good runs, made once; tests work on copies."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    for seed in (0, 1):
        write_run(folder / str(seed), seed=seed, count=30)
    return folder


@pytest.fixture
def sweep(made, tmp_path):
    return shutil.copytree(made, tmp_path / "sweep")


def change_rows(run, name, change):
    file = run / "predictions" / name
    write_predictions(file, change(read_predictions(file)))


def refusal(sweep, number="1"):
    """The one refusal among the two runs."""
    runs, refused = read_runs([sweep])
    assert [run.folder.name for run in runs] == [str(1 - int(number))]
    assert [one.folder.name for one in refused] == [number]
    assert refused[0].reason.values["text"]
    compare_runs(runs, refused, resamples=100)
    return refused[0].reason


def test_a_sweep_is_read_by_number(sweep):
    runs, refused = read_runs([sweep])
    assert [run.record["seed"] for run in runs] == [0, 1] and refused == []
    assert runs[0].predictions.keys() == {(t, m) for t in ("nerus", "terra") for m in ("base", "adapted")}


def test_numbers_are_numbers(sweep):
    shutil.copytree(sweep / "1", sweep / "10")
    shutil.copytree(sweep / "1", sweep / "2")
    assert [run.folder.name for run in read_runs([sweep])[0]] == ["0", "1", "2", "10"]


def test_nothing_to_compare_is_an_error_with_all_reasons(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as error:
        read_runs([tmp_path / "empty", tmp_path / "nowhere"])
    assert len(error.value.faults) == 2
    assert "empty: holds no run" in error.value.faults[0] and "nowhere: is not a folder" in error.value.faults[1]
    with pytest.raises(UserError, match="no folder was named"):
        read_runs([])
    with pytest.raises(UserError, match="no run to compare"):
        compare_runs([])


def test_an_empty_folder_beside_good_runs_is_refused(sweep, tmp_path):
    (tmp_path / "empty").mkdir()
    runs, refused = read_runs([sweep, tmp_path / "empty", sweep / "0"])
    assert len(runs) == 2
    assert [one.reason.code for one in refused] == ["no_runs", "same_folder"]


@pytest.mark.parametrize("status", ["failed", "oom", "cancelled", "running"])
def test_runs_that_did_not_end_well(sweep, status):
    def change(data):
        data["status"] = status
        data["error"] = {"type": "NotFiniteError", "message": "loss is nan\nmore", "traceback": "..."}

    change_record(sweep / "1", change)
    reason = refusal(sweep)
    assert (reason.code, reason.values["status"]) == ("not_finished", status)
    assert reason.values["error"] == "NotFiniteError: loss is nan"


def test_a_job_that_never_started(sweep):
    ledger = Ledger(sweep)
    ledger.append("a", 0, "queued", overrides=["seed=0"])
    ledger.append("b", 1, "queued", overrides=["seed=1"])
    ledger.append("c", 2, "queued", overrides=["seed=2"])
    (sweep / "3").mkdir()
    runs, refused = read_runs([sweep])
    assert len(runs) == 2
    assert [(one.folder.name, one.reason.code, one.reason.values["state"]) for one in refused] == [
        ("2", "no_record", "queued"),
        ("3", "no_record", "unknown"),
    ]


@pytest.mark.parametrize("left", [["predictions"], ["checkpoints", ".lock"], ["adapter"], [".hydra"]], ids=str)
def test_a_run_without_its_record_is_told_whatever_its_name(sweep, left):
    for name in left:
        (sweep / "again" / name).mkdir(parents=True)
    for name in ("comparison", ".submitit", "notes"):
        (sweep / name / "plots").mkdir(parents=True)
    (sweep / "study.db").touch()
    (sweep / "other" / "predictions").mkdir(parents=True)
    Ledger(sweep / "other").append("a", 0, "queued", overrides=[])  # a sweep is no run
    runs, refused = read_runs([sweep])
    assert len(runs) == 2
    assert [(one.folder.name, one.reason.code) for one in refused] == [("again", "no_record")]
    assert [one.reason.code for one in read_runs([sweep, sweep / "again"])[1]] == ["no_record", "no_record"]


def test_numbers_of_any_script_and_with_zeros_are_names_of_their_own(sweep):
    shutil.copytree(sweep / "1", sweep / "01")
    shutil.copytree(sweep / "1", sweep / "²")
    assert [run.folder.name for run in read_runs([sweep])[0]] == ["0", "01", "1", "²"]


def test_a_record_cut_short(sweep):
    file = sweep / "1" / "record.json"
    file.write_text(file.read_text(encoding="utf-8")[:200], encoding="utf-8")
    reason = refusal(sweep)
    assert reason.code == "record_damaged" and "line" in reason.values["detail"]


def test_a_record_of_another_schema(sweep):
    change_record(sweep / "1", lambda data: data.update(schema_version=0))
    reason = refusal(sweep)
    assert (reason.code, reason.values["found"], reason.values["wanted"]) == ("record_schema", 0, 1)


def test_a_record_that_lacks_a_key(sweep):
    change_record(sweep / "1", lambda data: data.pop("gates"))
    reason = refusal(sweep)
    assert reason.code == "record_invalid" and "gates" in reason.values["text"]


def test_a_record_without_scores(sweep):
    change_record(sweep / "1", lambda data: data.update(evaluation={}))
    assert refusal(sweep).code == "nothing_scored"


def test_missing_predictions(sweep):
    (sweep / "1" / "predictions" / "terra.base.jsonl").unlink()
    reason = refusal(sweep)
    assert (reason.code, reason.values["file"]) == ("predictions_missing", "predictions/terra.base.jsonl")


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", "holds no items"),
        ('{"id": "1", "item_hash"', "line 1: the last line is cut off"),
        ("[]\n", "line 1: the line: "),
    ],
    ids=["empty", "cut", "other rows"],
)
def test_damaged_predictions(sweep, text, detail):
    (sweep / "1" / "predictions" / "nerus.adapted.jsonl").write_text(text, encoding="utf-8")
    reason = refusal(sweep)
    assert (reason.code, reason.values["file"]) == ("predictions_damaged", "predictions/nerus.adapted.jsonl")
    assert reason.values["detail"].startswith(detail) and "evaluate again" not in reason.values["detail"]


def test_predictions_that_lost_items_do_not_pair(sweep):
    change_rows(sweep / "1", "nerus.adapted.jsonl", lambda rows: rows[:-1])
    reason = refusal(sweep)
    assert (reason.code, reason.values["task"], reason.values["count"]) == ("items_differ", "nerus", 1)


def test_an_item_twice(sweep):
    change_rows(sweep / "1", "nerus.adapted.jsonl", lambda rows: [*rows, rows[0]])
    assert refusal(sweep).code == "duplicate_items"


def test_predictions_of_another_evaluation(sweep):
    for model in ("base", "adapted"):
        change_rows(sweep / "1", f"terra.{model}.jsonl", lambda rows: rows[:20])
    reason = refusal(sweep)
    assert reason.code == "metrics_differ" and reason.values["task"] == "terra"
    assert reason.values["record"] != reason.values["predictions"]


def test_settings_of_another_program_version(sweep):
    change_record(sweep / "1", lambda data: data["config"]["task"].pop("types"))
    reason = refusal(sweep)
    assert reason.code == "task_unknown" and "types" in reason.values["text"]


def test_a_metric_that_only_some_runs_have(sweep):
    change_record(sweep / "1", lambda data: data["evaluation"]["adapted"]["nerus"].pop("exact_match"))
    group = compare_runs(*read_runs([sweep]), resamples=100).groups[0]
    nerus = {metric.name: metric for metric in group.tasks[0].metrics}
    assert nerus["exact_match"].rows == () and len(nerus["micro_f1"].rows) == 1
    warning = next(one for one in group.warnings if one.code == "metric_missing")
    assert (warning.values["metric"], warning.values["seeds"]) == ("exact_match", [1])


def test_a_metric_that_the_task_does_not_compute(sweep):
    """It may have been added by hand or by another version: its figure is shown, without interval and test."""
    shutil.copytree(sweep / "0", sweep / "2")
    change_record(sweep / "2", lambda data: data["config"]["adapter"].update(r=4))
    for model, value in (("base", 0.1), ("adapted", 0.3)):
        entry = {"value": value, "low": None, "high": None}
        change_record(sweep / "2", lambda data, m=model, e=entry: data["evaluation"][m]["nerus"].update(bleu=e))
    group = compare_runs(*read_runs([sweep]), resamples=100).groups[0]
    metrics = {one.name: one for one in group.tasks[0].metrics}
    (row,) = metrics["bleu"].rows
    assert (row.configuration, row.change.value, row.p, row.test) == ("lora r=4", pytest.approx(0.2), None, None)
    assert metrics["bleu"].places == () and len(metrics["micro_f1"].pairs) == 1
    assert [one.values["metric"] for one in group.warnings if one.code == "metric_unknown"] == ["bleu"]


def test_a_primary_metric_that_the_task_does_not_compute(sweep):
    def change(data):
        data["tasks"]["nerus"]["primary"] = "bleu"
        for model in ("base", "adapted"):
            data["evaluation"][model]["nerus"]["bleu"] = {"value": 0.2, "low": None, "high": None}

    for number in "01":
        change_record(sweep / number, change)
    group = compare_runs(*read_runs([sweep]), resamples=100).groups[0]
    assert group.tasks[0].primary == "bleu"
    assert (group.balance[0].gain.low, group.balance[0].on_front) == (None, None)


def test_a_configuration_without_a_base_is_told_once(sweep):
    change_record(sweep / "1", lambda data: data["evaluation"]["base"].pop("nerus"))
    change_record(sweep / "1", lambda data: data["config"]["adapter"].update(r=4))
    group = compare_runs(*read_runs([sweep]), resamples=100).groups[0]
    told = [one for one in group.warnings if one.code in ("base_missing", "metric_missing", "metric_not_finite")]
    assert [(one.code, one.values["configuration"], one.values["seeds"]) for one in told] == [
        ("base_missing", "lora r=4", [1])
    ]


def test_a_metric_that_is_not_finite(sweep):
    def change(data):
        data["evaluation"]["adapted"]["nerus"]["macro_f1"]["value"] = None
        data["non_finite"] = ["evaluation.adapted.nerus.macro_f1.value"]

    change_record(sweep / "1", change)
    change_record(sweep / "0", lambda data: data["config"]["adapter"].update(r=4))
    group = compare_runs(*read_runs([sweep]), resamples=100).groups[0]
    metric = next(one for one in group.tasks[0].metrics if one.name == "macro_f1")
    assert [row.configuration for row in metric.rows] == ["lora r=4"]
    assert metric.rows[0].p_holm == metric.rows[0].p, "what is not there is not corrected for"
    assert [one.values["configuration"] for one in group.warnings if one.code == "metric_not_finite"] == ["lora r=8"]


def test_the_same_configuration_and_seed_twice(sweep):
    shutil.copytree(sweep / "1", sweep / "2")
    write_run(sweep / "3", seed=1, count=30, answers="another time")
    comparison = compare_runs(*read_runs([sweep]), resamples=100)
    assert comparison.groups[0].tried == 2
    assert [(one.folder.name, one.reason.code) for one in comparison.refused] == [
        ("2", "same_run"),
        ("3", "same_run_other_scores"),
    ]
    assert {one.reason.values["folder"] for one in comparison.refused} == {str(sweep / "1")}


def test_a_base_alone_scored_again(tmp_path):
    for name in "ab":
        write_run(tmp_path / name, adapter={"kind": "none"}, count=20)
    change_record(tmp_path / "b", lambda data: data["evaluation"]["base"].pop("terra"))
    (tmp_path / "b" / "predictions" / "terra.base.jsonl").unlink()
    comparison = compare_runs(*read_runs([tmp_path]), resamples=100)
    assert [one.reason.code for one in comparison.refused] == ["same_run_other_scores"]


def test_a_sweep_of_one(sweep):
    shutil.rmtree(sweep / "1")
    group = compare_runs(*read_runs([sweep]), resamples=200).groups[0]
    assert [one.name for one in group.configurations] == ["lora"] and group.varying == ()
    metric = group.tasks[0].metrics[0]
    assert metric.places == (("lora",),) and metric.pairs == () and metric.smallest_pair_difference is None
    assert metric.rows[0].p == metric.rows[0].p_holm is not None
    alone = group.balance[0]
    assert 0 <= alone.on_front < 1, "in some resamples it is no better than the base anywhere"
    assert alone.published_behind is None and alone.absolute_behind is None
    assert "one_seed" in {one.code for one in group.warnings}


def test_base_models_alone(tmp_path):
    write_run(tmp_path / "a", adapter={"kind": "none"}, count=30)
    group = compare_runs(*read_runs([tmp_path / "a"]), resamples=200).groups[0]
    assert group.configurations == () and group.tasks[0].metrics[0].rows == ()
    assert group.tasks[0].metrics[0].base["nf4"].low is not None
    assert "base_only" in {one.code for one in group.warnings}


def test_base_models_beside_others_are_kept_and_counted_apart(sweep):
    write_run(sweep / "2", adapter={"kind": "none"}, seed=5, count=30)
    group = compare_runs(*read_runs([sweep]), resamples=100).groups[0]
    assert [run.folder.name for run in group.base_runs] == ["2"]
    assert group.tried == 2 and [one.name for one in group.configurations] == ["lora"]


def test_a_record_of_before_gates_had_values(sweep):
    for number in "01":
        change_record(
            sweep / number,
            lambda data: data.update(
                gates=[{"name": "one_label", "passed": False, "reason": "40 items", "task": "terra"}]
            ),
        )
    group = compare_runs(*read_runs([sweep]), resamples=100).groups[0]
    assert [gate.reason.values for gate in group.gates] == [{"text": "40 items"}] * 2


def test_a_loss_that_is_no_number_has_a_reason_of_its_own(sweep):
    losses = [2.0, float("nan"), 1.0]
    failed = [gates.loss_exploding(losses), gates.loss_not_falling(losses), gates.loss_exploding([1.0, 9.0])]
    change_record(sweep / "1", lambda data: data.update(gates=[dataclasses.asdict(gate) for gate in failed]))
    found = compare_runs(*read_runs([sweep]), resamples=100).groups[0].gates
    assert [(gate.name, gate.reason.code) for gate in found] == [
        ("loss_exploding", "loss_not_finite"),
        ("loss_not_falling", "loss_not_finite"),
        ("loss_exploding", "loss_exploding"),
    ]
    assert (found[0].reason.values["number"], found[0].reason.values["loss"]) == (1, "nan")


def test_runs_given_one_by_one_equal_the_sweep(sweep):
    whole = compare_runs(*read_runs([sweep]), resamples=100)
    single = compare_runs(*read_runs([sweep / "0", sweep / "1"]), resamples=100)
    assert whole.groups[0].tasks == single.groups[0].tasks
    assert LORA["r"] == whole.groups[0].configurations[0].runs[0].record["config"]["adapter"]["r"]
