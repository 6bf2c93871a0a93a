"""What a sweep tells when it ends."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from recorded_sweeps import NAME, sweep_folder

from adapter_exp.report.terminal import make_console
from adapter_exp.sweep.ledger import Ledger
from adapter_exp.sweep.summary import print_sweep_summary
from adapter_exp.tracking.mlflow_log import note_tracking
from adapter_exp.tracking.record import RunRecord


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ranks 4 and 16, seeds 0 and 1; the last job failed. The working directory is the sweep's root."""
    monkeypatch.chdir(tmp_path)
    return sweep_folder(tmp_path)


def test_the_best_has_the_least_where_less_is_better(folder: Path):
    assert "best        job 2" in _summary(folder)
    sweep = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps({**sweep, "maximise": False}))
    assert "best        job 0" in _summary(folder)


def _summary(folder: Path, width: int = 80) -> str:
    console = make_console(file=io.StringIO())
    console.width = width
    print_sweep_summary(folder, Ledger(folder).jobs(), console)
    return console.file.getvalue()


def test_every_job_has_a_row_and_a_failed_one_its_traceback(folder: Path):
    text = _summary(folder)
    lines = text.splitlines()
    assert f"sweep {NAME}  3 ok, 1 failed" in lines
    rows = {line.split()[0]: line.split() for line in lines if line.strip() and line.split()[0].isdigit()}
    assert rows["2"][1:5] == ["adapter.r=16", "seed=0", "ok", "0.270"]
    assert rows["3"][1:5] == ["adapter.r=16", "seed=1", "failed", "-"]
    assert "failed: job 3 adapter.r=16 seed=1: RuntimeError: labels are all masked" in lines
    assert f"    multirun/{NAME}/3/error.txt" in lines
    assert any(line.endswith("job 2 adapter.r=16 seed=0, objective 0.270 on validation") for line in lines)
    table = lines[lines.index(f"sweep {NAME}  3 ok, 1 failed") : lines.index(f"    multirun/{NAME}/3/error.txt") - 1]
    assert max(map(len, table)) <= 80


def test_the_commands_go_on_and_compare(folder: Path):
    text = _summary(folder)
    assert f"python -m adapter_exp.run -m resume_sweep=multirun/{NAME}" in text
    assert f"python -m adapter_exp.compare multirun/{NAME}" in text
    assert f"multirun/{NAME}/comparison/report.md" in text
    assert f"python -m adapter_exp.tracking.replay multirun/{NAME}" in text
    note_tracking(RunRecord.load(folder / "0"), logged=True, run_id="f" * 32, reason=None)
    assert "make ui" in _summary(folder)


def test_a_sweep_that_went_well_has_nothing_to_go_on_with(folder: Path):
    Ledger(folder).append("hash-3", 3, "running")
    Ledger(folder).append("hash-3", 3, "ok", objective=0.1)
    text = _summary(folder)
    assert "4 ok" in text and "resume_sweep" not in text and "error.txt" not in text


def test_a_job_that_was_killed_before_its_record_points_to_what_it_printed(folder: Path):
    Ledger(folder).append("hash-3", 3, "running")
    Ledger(folder).append("hash-3", 3, "oom", error="the system ended its process")
    (folder / "3" / "error.txt").unlink()
    (folder / "3" / "terminal.log").write_text("last words")
    assert f"    multirun/{NAME}/3/terminal.log" in _summary(folder).splitlines()


def test_damaged_records_and_markup_in_errors_are_no_trouble(folder: Path):
    for number in range(3):
        (folder / str(number) / "record.json").write_text("{")
    Ledger(folder).append("hash-3", 3, "failed", error="ValueError: [/bold] [red]\nsecond line")
    text = _summary(folder)
    assert "ValueError: [/bold] [red] second line" in text and "browse" not in text


def test_jobs_that_share_the_best_objective_are_counted(folder: Path):
    assert "the same as" not in _summary(folder)
    Ledger(folder).append("hash-3", 3, "ok", objective=0.27)
    assert "job 2 adapter.r=16 seed=0, objective 0.270 on validation, the same as 1 other job" in _summary(folder)


def test_of_a_long_sweep_the_failures_and_the_best_are_shown(tmp_path: Path):
    ledger = Ledger(tmp_path)
    for number in range(120):
        ledger.append(f"h{number}", number, "queued", overrides=[f"seed={number}"])
        bad = number % 10 == 9
        ledger.append(f"h{number}", number, "failed" if bad else "ok", objective=None if bad else number / 1000)
    rows = [line.split()[1] for line in _summary(tmp_path).splitlines() if line.strip()[:1].isdigit()]
    shown = [row for row in rows if row.startswith("seed=")]
    assert len(shown) == 50 and {f"seed={number}" for number in range(9, 120, 10)} <= set(shown)
    assert "seed=118" in shown  # the best one
    assert "70 more jobs" in _summary(tmp_path)


def test_a_sweep_without_jobs_is_said_to_have_none(tmp_path: Path):
    assert "no jobs" in _summary(tmp_path)
