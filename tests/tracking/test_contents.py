"""What MLflow is told: pure translation of the record, within MLflow's limits."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import finished_record, interval

from adapter_exp.tracking import contents
from adapter_exp.tracking.record import RecordData, RunRecord


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RecordData:
    return finished_record(tmp_path_factory.mktemp("contents")).data


def test_metrics_carry_every_evaluation_and_the_primary_ones_their_intervals(data: RecordData):
    metrics = contents.metrics(data)
    for model in ("base", "adapted", "change"):
        for task, results in data["evaluation"][model].items():
            for metric, expected in results.items():
                name = f"evaluation/{model}/{task}/{metric}"
                assert metrics[name] == expected["value"]
                ends = [metrics.get(name + end) for end in ("_low", "_high")]
                primary = metric == data["tasks"][task]["primary"]
                assert ends == ([expected["low"], expected["high"]] if primary else [None, None])
    trivial = {name: value for name, value in metrics.items() if name.startswith("evaluation/baseline/")}
    assert trivial == {"evaluation/baseline/nerus/f1": 0.0, "evaluation/baseline/terra/accuracy_loglik": 0.53}
    assert metrics["model/trainable_parameters"] == 1_843_200
    assert metrics["training/tokens/raw"] == 27_904
    assert metrics["resources/phases_s/train"] == 195.0
    assert metrics["gates/failed"] == 1
    assert "resources/peak_device_bytes" not in metrics  # null in the record


def test_parameters_are_the_flattened_configuration(data: RecordData):
    parameters = contents.parameters(data)
    assert parameters["adapter.kind"] == "lora" and parameters["adapter.r"] == "8" and parameters["seed"] == "0"


def test_a_value_over_the_limit_is_cut_and_says_so(tmp_path: Path):
    config = {"task": {"system": "я" * 7000, "labels": list(range(3)), "none": None, "empty": {}}}
    record = RunRecord.create(tmp_path, run_id="r", config=config, config_hash="h", seed=0)
    parameters = contents.parameters(record.data)
    assert len(parameters["task.system"]) == contents.MAX_PARAMETER
    assert parameters["task.system"].endswith("[cut, 7000 characters]")
    assert (parameters["task.labels"], parameters["task.none"], parameters["task.empty"]) == ("[0, 1, 2]", "null", "{}")


def test_odd_metric_names_stay_apart(tmp_path: Path):
    record = RunRecord.create(tmp_path, run_id="r", config={}, config_hash="h", seed=0)
    odd = {"pass@1": interval(0.1, 0), "pass#1": interval(0.2, 0), "f1 (macro)": interval(0.3, 0)}
    record.update("evaluation", {"adapted": {"human eval": odd}})
    metrics = contents.metrics(record.data)
    prefix = "evaluation/adapted/human eval/"
    assert metrics[f"{prefix}pass_1"] == 0.1 and metrics[f"{prefix}pass_1_2"] == 0.2
    assert metrics[f"{prefix}f1 _macro_"] == 0.3


@given(st.lists(st.text(max_size=300) | st.text("ab/. _@", max_size=8), unique=True, max_size=12))
def test_names_are_accepted_by_mlflow_and_differ(names):
    safe = contents.safe_names(names)
    assert len(set(safe.values())) == len(names)
    for name in safe.values():
        assert re.fullmatch(r"[/\w.\- :]+", name) and len(name) <= 250
        assert posixpath.normpath(name) == name and not name.startswith(("..", "/")) and name != "."


def test_curves_leave_out_what_was_not_finite(tmp_path: Path):
    record = RunRecord.create(tmp_path, run_id="r", config={}, config_hash="h", seed=0)
    record.update("training", {"loss": [{"step": 1, "loss": 0.5}, {"step": 2, "loss": float("inf")}]})
    assert [(point.name, point.step, point.value) for point in contents.curves(record.data)] == [
        ("training/loss", 1, 0.5)
    ]


def test_tags_name_the_adapter_and_what_a_failed_gate_withholds(data: RecordData):
    tags = contents.tags(data)
    assert tags["adapter"] == "lora" and tags["primary_metric"] == "nerus/f1" and tags["status"] == "ok"
    assert "majority" in tags["mlflow.note.content"] and "overlap" not in tags["mlflow.note.content"]


def test_datasets_are_known_by_their_fingerprint(data: RecordData):
    found = {(entry.name, entry.split): entry for entry in contents.datasets(data)}
    assert set(found) == {("nerus", "train"), ("nerus", "test"), ("terra", "test")}
    assert found["nerus", "train"].digest == "a" * 36


def test_a_run_of_a_sweep_is_filed_under_it(data: RecordData):
    assert contents.PARENT_TAG not in contents.tags(data)
    child = {**data, "tracking": {"mlflow": {"parent_run_id": "f" * 32}}}
    assert contents.tags(child)["mlflow.parentRunId"] == "f" * 32
