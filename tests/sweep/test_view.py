"""The live view: what it tells in a file and draws on a terminal, from a ledger that changes while it looks."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from rich.console import Console

from adapter_exp.report.progress import StatusFile
from adapter_exp.report.terminal import make_console
from adapter_exp.sweep.ledger import Ledger
from adapter_exp.sweep.view import SweepView, changes, drawn

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Four jobs that wait."""
    folder = tmp_path / "night-sweep"
    folder.mkdir()
    ledger = Ledger(folder)
    for number in range(4):
        ledger.append(f"h{number}", number, "queued", overrides=["adapter=lora", f"adapter.r={4 * (number + 1)}"])
    return ledger


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _plain_view(ledger: Ledger, output: io.StringIO, total: int | None = 4) -> SweepView:
    return SweepView(ledger.folder, console=make_console(file=output), total=total, poll_s=0.01)


def _picture(ledger: Ledger, width: int = 80, **options) -> list[str]:
    view = SweepView(ledger.folder, console=Console(file=io.StringIO()), **{"total": 4, **options})
    console = Console(file=io.StringIO(), width=width)
    console.print(drawn(view.snapshot()))
    return console.file.getvalue().splitlines()


def test_a_log_has_a_line_for_each_change_of_state(ledger: Ledger):
    output = io.StringIO()
    with _plain_view(ledger, output):
        _until(lambda: "night-sweep" in output.getvalue())
        ledger.append("h0", 0, "running")
        _until(lambda: "running" in output.getvalue())
        ledger.append("h0", 0, "ok", objective=0.25)
        _until(lambda: "best" in output.getvalue())
        ledger.append("h1", 1, "running")
        _until(lambda: "job 1" in output.getvalue())
        ledger.append("h1", 1, "failed", error="ValueError: no\nlabels")
    lines = output.getvalue().splitlines()
    assert lines[0] == "sweep night-sweep: 4 jobs"
    assert lines[1] == "job 0 adapter.r=4: running"
    assert re.fullmatch(
        r"job 0 adapter.r=4: ok, objective 0.250, .* s; 1 of 4 done, best 0.250 \(job 0\), about .* left", lines[2]
    )
    assert lines[3] == "job 1 adapter.r=8: running"
    assert lines[4].startswith("job 1 adapter.r=8: failed, ") and "ValueError: no labels; 1 of 4 done, 1 f" in lines[4]
    assert len(lines) == 5 and not CONTROL.search(output.getvalue())


def test_the_last_change_is_told_even_if_the_sweep_ends_at_once(ledger: Ledger):
    output = io.StringIO()
    with SweepView(ledger.folder, console=make_console(file=output), total=4, poll_s=60):
        ledger.append("h3", 3, "running")
        ledger.append("h3", 3, "oom", error="OutOfMemoryError: full")
    assert "job 3 adapter.r=16: out of memory" in output.getvalue()


def test_a_sweep_that_goes_on_does_not_tell_again_what_was_done(ledger: Ledger):
    ledger.append("h0", 0, "running")
    ledger.append("h0", 0, "ok", objective=0.5)
    ledger.append("h1", 1, "running")
    ledger.append("h1", 1, "failed", error="ValueError: x")
    ledger.append("h2", 2, "running")  # the process was killed here
    time.sleep(0.01)
    output = io.StringIO()
    with _plain_view(ledger, output):
        _until(lambda: "night-sweep" in output.getvalue())
        assert output.getvalue() == "sweep night-sweep: 4 jobs, 1 done already\n"
        ledger.append("h1", 1, "queued", overrides=["adapter=lora", "adapter.r=8"])
        ledger.append("h1", 1, "running")
        _until(lambda: "job 1" in output.getvalue())
    assert output.getvalue().splitlines()[1] == "job 1 adapter.r=8: running, attempt 2"


def test_the_picture_tells_counts_best_progress_failures_and_the_time_left(ledger: Ledger):
    ledger.append("h0", 0, "running")
    ledger.append("h0", 0, "ok", objective=0.25)
    ledger.append("h1", 1, "running")
    ledger.append("h1", 1, "failed", error="RuntimeError: every label is masked, " + "long " * 40)
    ledger.append("h2", 2, "running")
    job_dir = ledger.folder / "2"
    job_dir.mkdir()
    time.sleep(0.002)
    StatusFile(job_dir / "progress.json").write("train", 12, 40, "steps", "loss 1.2000, 356 tokens/s", at_once=True)
    picture = _picture(ledger)
    text = "\n".join(picture)
    assert picture[0].rstrip() == "1 of 4 done, 1 failed, 1 running, 1 waiting  night-sweep"
    assert "left" in picture[1]
    assert re.search(r"best +0\.250  job 0  adapter\.r=4", text)
    assert re.search(r"running +job 2  adapter\.r=12  train 12/40 steps", text)
    assert re.search(r"not done +job 1  adapter\.r=8  RuntimeError: every label", text)
    assert len(picture) == 5 and max(map(len, picture)) <= 80


def test_many_jobs_at_once_fit_the_terminal(tmp_path: Path):
    ledger = Ledger(tmp_path)
    for number in range(40):
        ledger.append(f"h{number}", number, "queued", overrides=[f"adapter.target_modules=[{'q_proj,' * 12}{number}]"])
        ledger.append(f"h{number}", number, "running")
        if number >= 30:
            ledger.append(f"h{number}", number, "cancelled", error="stopped by the user")
    picture = _picture(ledger, total=40)
    assert "and 22 more" in "\n".join(picture)
    assert len(picture) <= 14 and max(map(len, picture)) <= 80


def test_a_search_says_that_more_jobs_may_come(ledger: Ledger):
    ledger.append("h0", 0, "running")
    ledger.append("h0", 0, "ok", objective=0.25)
    assert "of the known jobs" in _picture(ledger, total=None)[1]
    output = io.StringIO()
    with _plain_view(ledger, output, total=None):
        pass
    assert output.getvalue().startswith("sweep night-sweep: 4 jobs or more")


def test_the_terminal_is_cleared_and_its_cursor_given_back(ledger: Ledger):
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80)
    with SweepView(ledger.folder, console=console, total=4, poll_s=0.01):
        _until(lambda: "4 waiting" in output.getvalue())
        ledger.append("h0", 0, "running")
        _until(lambda: "starts" in output.getvalue())
    assert output.getvalue().count("\x1b[?25l") == output.getvalue().count("\x1b[?25h") == 1
    assert output.getvalue().rstrip().endswith("\x1b[2K")  # the last picture is wiped: the summary takes its place


def test_what_a_job_of_this_process_prints_goes_to_its_own_log(ledger: Ledger):
    output, log = io.StringIO(), io.StringIO()
    console = Console(file=output, force_terminal=True, width=80)
    with SweepView(ledger.folder, console=console, total=4, poll_s=0.01), redirect_stdout(log):
        _until(lambda: "4 waiting" in output.getvalue())
        sys.stdout.write("step 1\n")
        ledger.append("h0", 0, "running")
        _until(lambda: "starts" in output.getvalue())
    assert log.getvalue() == "step 1\n" and "step 1" not in output.getvalue()


class _BrokenPipe(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_is_gone_does_not_reach_the_sweep(ledger: Ledger, terminal: bool):
    console = Console(file=_BrokenPipe(), force_terminal=terminal, width=80)
    with SweepView(ledger.folder, console=console, total=4, poll_s=0.01) as view:
        ledger.append("h0", 0, "running")
        _until(lambda: terminal or not view._thread.is_alive())
    assert not view._thread.is_alive()


def test_a_folder_without_a_ledger_is_an_empty_sweep(tmp_path: Path):
    output = io.StringIO()
    with SweepView(tmp_path, console=make_console(file=output), total=3, poll_s=0.01):
        time.sleep(0.05)
    assert output.getvalue() == ""
    assert "0 of 3 done, 0 failed, 0 running, 3 waiting" in _picture(Ledger(tmp_path), total=3)[0]


def test_between_two_jobs_and_at_the_end_the_estimate_keeps_the_number_of_processes(ledger: Ledger):
    view = SweepView(ledger.folder, console=Console(file=io.StringIO()), total=4)
    for number in (0, 1):
        ledger.append(f"h{number}", number, "running")
    view.snapshot()
    time.sleep(0.3)
    for number in (0, 1):
        ledger.append(f"h{number}", number, "ok", objective=0.1)
    left = view.snapshot().left_s  # nothing runs, two wait, two processes: one round
    assert left is not None and 0.3 <= left < 0.6
    assert changes(view.snapshot(), {}) != []
