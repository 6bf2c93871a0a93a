"""The record: whole at every moment, checked, and readable after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_exp.errors import UserError
from adapter_exp.tracking.environment import git_state
from adapter_exp.tracking.record import RunRecord, load_record


def test_a_new_record_is_running_and_readable(record: RunRecord, tmp_path: Path):
    data = load_record(tmp_path / "run")
    assert data == record.data
    assert (data["status"], data["finished_at"], data["error"]) == ("running", None, None)
    assert data["versions"]["torch"] and data["host"]["cores"] >= 1


def test_a_kill_between_phases_leaves_the_last_phase(tmp_path: Path):
    script = (
        "import os, pathlib, signal, sys; from adapter_exp.tracking.record import RunRecord\n"
        "r = RunRecord.create(pathlib.Path(sys.argv[1]), run_id='k', config={}, config_hash='h', seed=1)\n"
        "r.update('training', {'steps': 7})\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env={**os.environ, "PYTHONPATH": root}, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    data = load_record(tmp_path)
    assert data["status"] == "running" and data["training"] == {"steps": 7}


def test_update_merges_one_level(record: RunRecord):
    record.update("evaluation", {"base": {"nerus": {"f1": {"value": 0.1, "low": 0.0, "high": 0.2}}}})
    record.update("evaluation", {"adapted": {}})
    assert set(record.data["evaluation"]) == {"base", "adapted"}
    record.update("gates", [{"name": "one_label", "passed": True, "reason": "", "task": "nerus", "model": "base"}])
    record.update("gates", [])
    assert record.data["gates"] == []


def test_numbers_that_are_not_finite_become_null_and_are_named(record: RunRecord, tmp_path: Path):
    record.update("training", {"loss": [{"step": 1, "loss": np.float32("nan")}, {"step": 2, "loss": 0.5}]})
    data = load_record(tmp_path / "run")
    assert data["training"]["loss"][0] == {"step": 1, "loss": None}
    assert data["non_finite"] == ["training.loss.0.loss"]
    record.update("training", {"loss": []})
    assert record.data["non_finite"] == []


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("trainning", {}),
        ("training", {"loss": [{"step": 1}]}),
        ("evaluation", {"adapted": {"nerus": {"f1": 0.5}}}),
        ("model", {"trainable_parameters": "many"}),
        ("model", {"config": object()}),
    ],
)
def test_values_that_break_the_schema_are_refused_and_not_written(record: RunRecord, tmp_path: Path, section, values):
    before = (tmp_path / "run" / "record.json").read_bytes()
    with pytest.raises(ValueError):
        record.update(section, values)
    assert (tmp_path / "run" / "record.json").read_bytes() == before


def test_ok_needs_the_keys_that_tools_rely_on(record: RunRecord):
    with pytest.raises(ValueError, match=r"model.trainable_parameters, resources.peak_rss_bytes"):
        record.finish("ok")
    assert record.data["status"] == "running"


def test_a_failure_keeps_its_traceback(record: RunRecord, tmp_path: Path):
    try:
        raise MemoryError("batch of 64 rows")
    except MemoryError as error:
        record.fail(error, status="oom")
    data = load_record(tmp_path / "run")
    assert (data["status"], data["error"]["type"]) == ("oom", "MemoryError")
    assert "batch of 64 rows" in (tmp_path / "run" / "error.txt").read_text()
    assert data["finished_at"] >= data["started_at"]


def _write(folder: Path, text: str) -> None:
    (folder / "record.json").write_text(text, encoding="utf-8")


def test_unreadable_records_are_one_line_naming_the_file(record: RunRecord, tmp_path: Path):
    run = tmp_path / "run"
    good = json.loads((run / "record.json").read_text())
    faults = {
        "damaged": json.dumps(good)[:-40],
        "schema_version is 2": json.dumps({**good, "schema_version": 2}),
        "schema_version is None": "[]",
        "status": json.dumps({**good, "status": "done"}),
        "training.loss.0.step": json.dumps({**good, "training": {"loss": [{"loss": 1.0}]}}),
    }
    for expected, text in faults.items():
        _write(run, text)
        with pytest.raises(UserError, match=expected) as caught:
            load_record(run)
        assert len(str(caught.value).splitlines()) == 1 and str(run / "record.json") in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        load_record(tmp_path / "nowhere")


def test_additions_of_later_versions_are_kept(record: RunRecord, tmp_path: Path):
    _write(tmp_path / "run", json.dumps({**record.data, "comment": "mine"}))
    assert load_record(tmp_path / "run")["comment"] == "mine"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(values=st.dictionaries(st.text(min_size=1, max_size=5), json_values, max_size=3))
def test_whatever_is_stored_is_what_is_read(tmp_path_factory: pytest.TempPathFactory, values):
    folder = tmp_path_factory.mktemp("property")
    record = RunRecord.create(folder, run_id="p", config=values, config_hash="h", seed=0)
    assert load_record(folder) == record.data
    assert json.dumps(record.data, allow_nan=False)


def test_code_outside_a_repository_has_no_commit(tmp_path: Path):
    (tmp_path / "code.py").write_text("")
    assert git_state(tmp_path / "code.py") is None
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert git_state(tmp_path / "code.py") is None  # there is a repository now, but the file is not part of it
