"""The ledger: every line counts, a line that was cut does not, and many processes may write."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_exp.sweep.ledger import STATES, Ledger


def test_a_job_moves_through_its_states(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.jobs() == []
    ledger.append("b", 1, "queued", overrides=["seed=1"])
    ledger.append("a", 0, "queued", overrides=["seed=0"])
    ledger.append("a", 0, "running")
    ledger.append("a", 0, "failed", error="MemoryError: full")
    ledger.append("a", 0, "queued", overrides=["seed=0"])
    ledger.append("a", 0, "running")
    ledger.append("a", 0, "ok", objective=0.5)
    first, second = ledger.jobs()
    assert (first.config_hash, first.state, first.attempts, first.objective, first.error) == ("a", "ok", 2, 0.5, None)
    assert first.started_at is not None
    assert first.ended_at is not None
    assert first.queued_at <= first.started_at <= first.ended_at
    assert (second.state, second.overrides, second.attempts, second.ended) == ("queued", ("seed=1",), 0, False)


def test_every_line_says_when_and_who(tmp_path: Path) -> None:
    Ledger(tmp_path).append("a", 0, "queued", overrides=["task.path='ёж'"])
    line = json.loads((tmp_path / "ledger.jsonl").read_text(encoding="utf-8"))
    assert line.keys() == {"time", "job", "number", "state", "pid", "host", "overrides"}


def test_an_error_of_several_lines_is_one_line(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.append("a", 0, "failed", error="one\ntwo\u2028three\x85four")
    assert ledger.jobs()[0].error == "one\ntwo\u2028three\x85four"


@pytest.mark.parametrize("kept", [0, 1, 20, -1])
def test_a_line_that_was_cut_is_passed_over_and_the_next_one_is_whole(tmp_path: Path, kept: int) -> None:
    ledger = Ledger(tmp_path)
    ledger.append("a", 0, "queued", overrides=[])
    whole = ledger.path.read_bytes()
    ledger.append("a", 0, "running")
    line = ledger.path.read_bytes()[len(whole) :]
    ledger.path.write_bytes(whole + line[:kept])
    assert ledger.jobs()[0].state == ("running" if kept == -1 else "queued")
    ledger.append("a", 0, "ok", objective=1.0)
    assert ledger.jobs()[0].state == "ok"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(STATES)), min_size=1))
def test_the_last_state_stands_and_no_job_is_lost(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, str]]
) -> None:
    ledger = Ledger(tmp_path_factory.mktemp("ledger"))
    for job, state in moves:
        ledger.append(job, ord(job), state)  # type: ignore[arg-type]
    assert {job.config_hash: job.state for job in ledger.jobs()} == dict(moves)


def _write(folder: str, job: str) -> None:
    for _ in range(20):
        Ledger(Path(folder)).append(job, ord(job), "running")


def test_processes_that_write_at_once_lose_no_line(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(str(tmp_path), job)) for job in "abcd"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [job.attempts for job in Ledger(tmp_path).jobs()] == [20, 20, 20, 20]
