"""How far a run is: bars on a terminal, a line now and then in a log file, a small file for those who watch."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from adapter_exp.report.words import duration

NAME_WIDTH = 16
STATUS_EVERY_S = 1.0


class StatusFile:
    """Says in a file how far a run is, so that another process can show it; None for ``path`` writes nothing.

    The file is whole at every moment and replaced at most once a second. It is no part of the results: a disk that is
    full or gone is passed over.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._written = 0.0

    def write(self, phase: str, done: int, total: int, unit: str, note: str, *, at_once: bool = False) -> None:
        """Say that ``done`` of ``total`` (0: not known) items of ``phase`` are finished.

        Args:
            at_once: write even if the last time was less than a second ago; for the beginning of a phase, which can be
                silent for minutes.
        """
        if self._path is None or (not at_once and time.monotonic() - self._written < STATUS_EVERY_S):
            return
        self._written = time.monotonic()
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        status = {"phase": phase, "done": done, "total": total, "unit": unit, "note": note, "time": now}
        # Not files.write_text_atomic, which waits for the disk: after a crash nobody needs this file.
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with suppress(OSError):
            temporary.write_text(json.dumps(status, ensure_ascii=False), encoding="utf-8")
            temporary.replace(self._path)


class Phase:
    """Progress of one phase. Instances are ``on_progress`` callbacks: call them with the items done and in all."""

    def __init__(self, console: Console, name: str, unit: str, every_s: float, status_file: StatusFile) -> None:
        self._console = console
        self._status_file = status_file
        self._name = name
        self._unit = unit
        self._every_s = every_s
        self._started = time.monotonic()
        self._said = self._started
        self._done, self._total, self._note = 0, 0, ""
        self._bars: Bars | None = None
        status_file.write(name, 0, 0, unit, "", at_once=True)
        if console.is_terminal:
            self._bars = Bars(
                TextColumn(f"[bold]{{task.description:<{NAME_WIDTH}}}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(compact=True),
                console=console,
                transient=True,
            )
            self._bar = self._bars.add_task(name, total=None, status="")
            self._bars.start()

    def __call__(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` items are finished."""
        self._advance(done, total, f"{done / max(self._seconds(), 1e-9):.1f} {self._unit}/s")

    def step(self, done: int, total: int, *, loss: float, tokens_per_s: float) -> None:
        """Report an optimizer step of training."""
        self._advance(done, total, f"loss {loss:.4f}, {tokens_per_s:.0f} tokens/s")

    def close(self, *, completed: bool) -> None:
        """Remove the bar and leave one line that says what was done, and how long it took."""
        if self._bars is not None:
            self._bars.stop()
        parts = [f"{self._done} {self._unit}"] if self._total else []
        if completed:
            parts += [self._note] if self._note else []
        else:
            parts = [f"stopped at {self._done} of {self._total} {self._unit}" if self._total else "stopped"]
        self._print(", ".join([*parts, duration(self._seconds())]))

    def _advance(self, done: int, total: int, note: str) -> None:
        self._done, self._total, self._note = done, total, note
        self._status_file.write(self._name, done, total, self._unit, note)
        status = f"{done}/{total} {self._unit}, {note}"
        if self._bars is not None:
            self._bars.update(self._bar, completed=done, total=total, status=status)
        elif time.monotonic() - self._said >= self._every_s and done < total:
            self._said = time.monotonic()
            left = f", {duration(self._seconds() * (total - done) / done)} left" if done else ""
            self._print(status + left)

    def _print(self, text: str) -> None:
        self._console.print(Text.assemble((f"{self._name:<{NAME_WIDTH}}", "bold"), " ", text), soft_wrap=True)

    def _seconds(self) -> float:
        return time.monotonic() - self._started


class Progress:
    """Shows the phases of a run on ``console``.

    Args:
        console: where to; bars when it is a terminal, plain lines without control codes otherwise.
        every_s: seconds between lines when it is not a terminal.
        status_file: file that says the same for another process, see ``StatusFile``.
    """

    def __init__(self, console: Console, *, every_s: float = 15.0, status_file: Path | None = None) -> None:
        self._console = console
        self._status_file = StatusFile(status_file)
        self._every_s = every_s

    @contextmanager
    def phase(self, name: str, *, unit: str = "items") -> Iterator[Phase]:
        """Show one phase (``load``, ``evaluate base``, ``train``...) while the block runs."""
        phase = Phase(self._console, name, unit, self._every_s, self._status_file)
        completed = False
        try:
            yield phase
            completed = True
        finally:
            phase.close(completed=completed)
