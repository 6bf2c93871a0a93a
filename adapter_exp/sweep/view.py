"""What a running sweep does, live: drawn over and over on a terminal, a line for each change in a file or pipe."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from adapter_exp.report.words import duration, number
from adapter_exp.sweep.arguments import maximises
from adapter_exp.sweep.ledger import JobEntry, Ledger, State
from adapter_exp.sweep.rows import (
    STATE_WORDS,
    WENT_BADLY,
    best_job,
    counts,
    names,
    read_progress,
    seconds,
    time_left_s,
)

POLL_S = 0.5
MAX_RUNNING, MAX_FAILED = 8, 3
BAR_WIDTH, LABEL_WIDTH = 30, 8
STATE_STYLE: Mapping[State, str] = {"ok": "green", "running": "cyan", "queued": "dim", "cancelled": "yellow"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment.

    Attributes:
        total: jobs of the whole sweep, as far as known.
        open_ended: whether a search may still add jobs.
        progress: by config hash, of the running jobs that tell theirs.
        left_s: estimate; None while there is nothing to estimate from.
        elapsed_s: since the view was opened.
    """

    name: str
    jobs: Sequence[JobEntry]
    total: int
    open_ended: bool
    progress: Mapping[str, Mapping[str, Any]]
    best: JobEntry | None
    left_s: float | None
    elapsed_s: float
    now: datetime


class SweepView:
    """Shows the sweep in ``sweep_dir`` while the block runs, from its ledger and its jobs' ``progress.json``.

    A thread of its own reads the files, so jobs may run in this process or in others. Whatever goes wrong in here is
    logged, and never reaches the sweep.

    Args:
        console: where to; it must have its own ``file`` where jobs in this process redirect ``sys.stdout``.
        total: number of jobs; None when a search decides as it goes.
        poll_s: seconds between looks.
    """

    def __init__(
        self,
        sweep_dir: Path,
        *,
        console: Console,
        total: int | None,
        poll_s: float = POLL_S,
    ) -> None:
        self._dir = sweep_dir
        self._ledger = Ledger(sweep_dir)
        self._console = console
        self._total = total
        self._maximise = maximises(sweep_dir)
        self._poll_s = poll_s
        self._parallel = 1
        self._opened = datetime.now(UTC)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sweep view", daemon=True)

    def __enter__(self) -> SweepView:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._thread.join(timeout=10)  # a terminal that takes nothing more must not hold up the sweep's end

    def snapshot(self) -> Snapshot:
        """The sweep as its files tell it now."""
        jobs, now = self._ledger.jobs(), datetime.now(UTC)
        running = [job for job in jobs if job.state == "running"]
        # Between two jobs nothing runs for a moment, and at the end fewer do: that is no slower sweep.
        self._parallel = max(self._parallel, len(running)) if self._waiting(jobs) else self._parallel
        progress = {
            job.config_hash: found
            for job in running
            if (found := read_progress(self._dir / str(job.number), job.started_at)) is not None
        }
        return Snapshot(
            name=self._dir.name,
            jobs=jobs,
            total=max(self._total or 0, len(jobs)),
            open_ended=self._total is None,
            progress=progress,
            best=best_job(jobs, maximise=self._maximise),
            left_s=time_left_s(jobs, total=self._total, parallel=self._parallel, now=now),
            elapsed_s=(now - self._opened).total_seconds(),
            now=now,
        )

    def _waiting(self, jobs: Sequence[JobEntry]) -> bool:
        return any(job.state == "queued" for job in jobs) or len(jobs) < (self._total or 0)

    def _work(self) -> None:
        try:
            self._draw() if self._console.is_terminal else self._tell()
        except (Exception, SystemExit):  # the sweep is worth more than its view; rich exits on a broken pipe
            logger.debug("the live view has ended", exc_info=True)

    def _draw(self) -> None:
        # Jobs of this process redirect the standard streams to their logs; Live must leave them alone.
        live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        with live:
            while True:
                last = self._closed.wait(self._poll_s)
                with contextlib.suppress(OSError):  # a network folder that is away for a moment
                    live.update(drawn(self.snapshot()), refresh=True)
                if last:
                    return

    def _tell(self) -> None:
        known: dict[str, tuple[State, int]] | None = None
        while True:
            last = self._closed.wait(self._poll_s)
            with contextlib.suppress(OSError):
                seen = self.snapshot()
                if seen.jobs:
                    lines = changes(seen, known) if known is not None else [opening(seen), *changes(seen, _begun(seen))]
                    for line in lines:
                        self._console.print(line, soft_wrap=True)
                    known = {job.config_hash: _stage(job) for job in seen.jobs}
            if last:
                return


def opening(seen: Snapshot) -> Text:
    """The first line of a log: how many jobs there are, and how many of them were done before."""
    done = counts(seen.jobs)["ok"]
    jobs = f"{seen.total} {'job' if seen.total == 1 else 'jobs'}{' or more' if seen.open_ended else ''}"
    return Text.assemble("sweep ", (seen.name, "bold"), f": {jobs}" + (f", {done} done already" if done else ""))


def changes(seen: Snapshot, known: Mapping[str, tuple[State, int]]) -> list[Text]:
    """A line for each job whose state is not the known one; jobs that only wait have none."""
    short = names(seen.jobs)
    changed = [job for job in seen.jobs if job.state != "queued" and known.get(job.config_hash) != _stage(job)]
    ended = [_change(job, short[job.config_hash], seen.now) for job in changed if job.ended]
    if ended:
        ended[-1].append(f"; {_standing(seen)}", style="dim")
    return ended + [_change(job, short[job.config_hash], seen.now) for job in changed if not job.ended]


def drawn(seen: Snapshot) -> Group:
    """The picture on a terminal: at most a dozen lines of the console's width, none of them wrapped."""
    short = names(seen.jobs)
    done = sum(job.ended for job in seen.jobs)
    bar = Table.grid(padding=(0, 2))
    bar.add_row(ProgressBar(total=max(seen.total, 1), completed=done, width=BAR_WIDTH), Text(_clock(seen)))
    rows = Table.grid(padding=(0, 1))
    rows.add_column(min_width=LABEL_WIDTH, no_wrap=True, style="dim")
    rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    if seen.best is not None:
        score = number(seen.best.objective)
        rows.add_row(
            "best", Text.assemble((score, "bold"), f"  job {seen.best.number}  {short[seen.best.config_hash]}")
        )
    running = [job for job in seen.jobs if job.state == "running"]
    for position, job in enumerate(running[:MAX_RUNNING]):
        rows.add_row("" if position else "running", _running(job, short[job.config_hash], seen))
    if len(running) > MAX_RUNNING:
        rows.add_row("", f"and {len(running) - MAX_RUNNING} more")
    failed = [job for job in seen.jobs if job.state in WENT_BADLY]
    for position, job in enumerate(failed[-MAX_FAILED:]):
        told = f"job {job.number}  {short[job.config_hash]}  {job.error or STATE_WORDS[job.state]}"
        rows.add_row("" if position else "not done", Text(told, style="red", no_wrap=True, overflow="ellipsis"))
    return Group(_head(seen), bar, rows)


def _begun(seen: Snapshot) -> dict[str, tuple[State, int]]:
    """What needs no line at the beginning: jobs that ended, or were killed, before the view was opened."""
    # The ledger cuts its times to milliseconds: a job that starts at once would seem to be older than the view.
    opened = seen.now - timedelta(seconds=seen.elapsed_s, milliseconds=1)
    former = [job for job in seen.jobs if job.started_at and (job.ended_at or job.started_at) < opened]
    return {job.config_hash: _stage(job) for job in former}


def _stage(job: JobEntry) -> tuple[State, int]:
    return job.state, job.attempts


def _change(job: JobEntry, name: str, now: datetime) -> Text:
    line = Text.assemble((f"job {job.number}", "bold"), f" {name}".rstrip(), ": ")
    line.append(STATE_WORDS[job.state], style=STATE_STYLE.get(job.state, "bold red"))
    parts = [f"attempt {job.attempts}"] if job.attempts > 1 else []
    if job.ended:
        parts += [f"objective {number(job.objective)}"] if job.objective is not None else []
        lasted = seconds(job, now)
        parts += [duration(lasted)] if lasted is not None else []
        parts += [" ".join(job.error.split())] if job.error else []
    return line.append("".join(f", {part}" for part in parts))


def _standing(seen: Snapshot) -> str:
    found = counts(seen.jobs)
    bad = found["failed"] + found["oom"]
    parts = [f"{found['ok']} of {seen.total} done"]
    parts += [f"{bad} failed"] if bad else []
    parts += [f"{found['cancelled']} cancelled"] if found["cancelled"] else []
    parts += [f"best {number(seen.best.objective)} (job {seen.best.number})"] if seen.best is not None else []
    parts += [_left(seen)] if seen.left_s and not _all_ended(seen) else []
    return ", ".join(parts)


def _head(seen: Snapshot) -> Text:
    found = counts(seen.jobs)
    waiting = seen.total - sum(found.values()) + found["queued"]
    bad = found["failed"] + found["oom"]
    line = Text(f"{found['ok']} of {seen.total} done", style="green" if found["ok"] else "", no_wrap=True)
    line.overflow = "ellipsis"  # a long name is cut, never a number
    line.append(f", {bad} failed", style="bold red" if bad else "dim")
    line.append(f", {found['cancelled']} cancelled" if found["cancelled"] else "", style="bold red")
    line.append(f", {found['running']} running, {waiting} waiting", style="default")
    return line.append(f"  {seen.name}", style="bold default")


def _clock(seen: Snapshot) -> str:
    left = "" if _all_ended(seen) else f", {_left(seen)}" if seen.left_s is not None else ", time left not known yet"
    return f"{duration(seen.elapsed_s)}{left}"


def _left(seen: Snapshot) -> str:
    assert seen.left_s is not None
    return f"about {duration(seen.left_s)} left{' of the known jobs' if seen.open_ended else ''}"


def _all_ended(seen: Snapshot) -> bool:
    return len(seen.jobs) == seen.total and all(job.ended for job in seen.jobs)


def _running(job: JobEntry, name: str, seen: Snapshot) -> Text:
    status = seen.progress.get(job.config_hash)
    lasted = duration(seconds(job, seen.now) or 0.0)
    line = Text.assemble(f"job {job.number}  ", name, "  " if name else "", no_wrap=True, overflow="ellipsis")
    if status is None:
        return line.append(f"starts, {lasted}", style="cyan")
    amount = f" {status['done']}/{status['total']} {status['unit']}" if status["total"] else ""
    note = f", {status['note']}" if status["note"] else ""
    return line.append(f"{status['phase']}{amount}, {lasted}{note}", style="cyan")
