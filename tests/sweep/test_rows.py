"""Short names, counts, the best job and the time left, from hand-made jobs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapter_exp.sweep.ledger import JobEntry, State
from adapter_exp.sweep.rows import best_job, counts, names, read_progress, seconds, time_left_s, told_counts

START = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)


def job(
    number: int, state: State = "ok", *, objective: float | None = None, began_s: float = 0, took_s: float | None = None
) -> JobEntry:
    started = None if state == "queued" else START + timedelta(seconds=began_s)
    ended = None if started is None or took_s is None else started + timedelta(seconds=took_s)
    overrides = ("adapter=lora", f"adapter.r={4 * (number + 1)}", "seed=0")
    return JobEntry(f"h{number}", number, overrides, state, 1, objective, None, START, started, ended)


def test_a_name_holds_what_differs_only():
    assert names([job(0), job(1)]) == {"h0": "adapter.r=4", "h1": "adapter.r=8"}
    assert names([job(0)]) == {"h0": "adapter=lora adapter.r=4 seed=0"}  # nothing differs in a sweep of one


def test_a_key_that_changes_no_number_is_no_difference():
    resumed = replace(
        job(1), overrides=(*job(1).overrides, "resume_sweep=multirun/s", "tracking.kind=none", "isolate=process")
    )
    assert names([job(0), resumed]) == {"h0": "adapter.r=4", "h1": "adapter.r=8"}


def test_counts_name_the_states_that_occur():
    jobs = [job(0), job(1, "failed"), job(2, "oom"), job(3, "queued"), job(4)]
    assert counts(jobs) == {"queued": 1, "running": 0, "ok": 2, "failed": 1, "oom": 1, "cancelled": 0}
    assert told_counts(jobs) == "2 ok, 1 failed, 1 out of memory, 1 waiting"
    assert told_counts([]) == "no jobs"


def test_the_best_job_is_a_finished_one_with_a_number():
    jobs = [job(0, objective=0.2), job(1, objective=0.3), job(2, objective=0.3), job(3, objective=math.nan)]
    jobs += [job(4, "failed", objective=0.9), job(5, objective=None)]
    best, worst = best_job(jobs), best_job(jobs, maximise=False)
    assert best is not None and best.number == 1  # the first of equal ones
    assert worst is not None and worst.number == 0
    assert best_job([job(0, "running")]) is None
    zero = best_job([job(0, objective=-1.0), job(1, objective=0.0)])
    assert zero is not None and zero.number == 1


def test_a_host_whose_clock_is_ahead_gives_no_negative_time():
    assert seconds(job(0, "running", began_s=60), START) == 0
    assert seconds(job(0, "queued"), START) is None
    assert seconds(job(0, took_s=12), START) == 12


def test_nothing_is_estimated_before_a_job_has_ended_well():
    assert time_left_s([job(0, "running"), job(1, "queued")], total=2, parallel=1, now=START) is None
    assert time_left_s([job(0, "failed", took_s=1), job(1, "queued")], total=2, parallel=1, now=START) is None


@pytest.mark.parametrize(
    ("parallel", "total", "expected"),
    [
        (1, None, 4 + 2 * 10),  # 6 s of 10 have gone, two wait
        (1, 7, 4 + 4 * 10),  # two more are not in the ledger yet
        (2, None, (4 + 20) / 2),
        (8, None, 4),  # never less than what runs now
    ],
)
def test_the_time_left_counts_what_runs_and_waits(parallel, total, expected):
    jobs = [job(n, took_s=10, began_s=10 * n) for n in range(2)] + [job(2, "running", began_s=20)]
    jobs += [job(3, "queued"), job(4, "queued")]
    left = time_left_s(jobs, total=total, parallel=parallel, now=START + timedelta(seconds=26))
    assert left == pytest.approx(expected)


def test_the_first_job_of_each_process_loads_the_base_and_is_left_out():
    first = [job(0, took_s=100), job(1, took_s=120)]
    rest = [job(2, took_s=20, began_s=100), job(3, took_s=30, began_s=120)]
    waiting = [job(4, "queued"), job(5, "queued")]
    now = START + timedelta(seconds=150)
    assert time_left_s(first + rest + waiting, total=None, parallel=2, now=now) == pytest.approx(25)
    assert time_left_s(first + waiting, total=None, parallel=2, now=now) == pytest.approx(110)


def test_a_job_that_takes_longer_than_the_others_leaves_no_negative_time():
    jobs = [job(0, took_s=10), job(1, "running", began_s=10)]
    assert time_left_s(jobs, total=2, parallel=1, now=START + timedelta(seconds=500)) == 0


def test_progress_of_an_earlier_attempt_or_damaged_is_no_progress(tmp_path: Path):
    assert read_progress(tmp_path, START) is None
    file = tmp_path / "progress.json"
    status = {"phase": "train", "done": 3, "total": 9, "unit": "steps", "note": "", "time": START.isoformat()}
    file.write_text(json.dumps(status))
    found = read_progress(tmp_path, START)
    assert found is not None and (found["phase"], found["done"], found["total"]) == ("train", 3, 9)
    assert read_progress(tmp_path, START + timedelta(seconds=1)) is None
    for text in ("{", "[]", "null", json.dumps({**status, "done": "many"}), json.dumps({**status, "time": "now"})):
        file.write_text(text)
        assert read_progress(tmp_path, START) is None
