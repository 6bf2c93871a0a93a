"""What became of each job of a sweep: ``ledger.jsonl``, one line per change of state, flushed before work goes on."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

LEDGER_FILE = "ledger.jsonl"

State = Literal["queued", "running", "ok", "failed", "oom", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
ENDED: frozenset[State] = frozenset({"ok", "failed", "oom", "cancelled"})


@dataclass(frozen=True)
class JobEntry:
    """One job as the ledger knows it.

    Attributes:
        config_hash: identity of its configuration, which is the job's identity too.
        number: of its folder below the sweep's.
        overrides: its command-line overrides.
        attempts: how often it was started.
        objective: what a search maximises or minimises, of a job that ended well.
        error: type and first line of what ended a job badly.
        started_at, ended_at: of the last attempt.
        host: where the last attempt ran.
    """

    config_hash: str
    number: int
    overrides: tuple[str, ...]
    state: State
    attempts: int
    objective: float | None
    error: str | None
    queued_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    host: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs or waits."""
        return self.state in ENDED


class Ledger:
    """The ledger of the sweep in ``folder``; several processes may write to it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / LEDGER_FILE

    def append(
        self,
        config_hash: str,
        number: int,
        state: State,
        *,
        overrides: Sequence[str] | None = None,
        objective: float | None = None,
        error: str | None = None,
    ) -> None:
        """Add a line and wait until it is on the disk.

        Args:
            overrides: of a ``queued`` line.
        """
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "job": config_hash,
            "number": number,
            "state": state,
            "pid": os.getpid(),
            "host": socket.gethostname(),
        }
        optional = {"overrides": overrides, "objective": objective, "error": error}
        line |= {key: value for key, value in optional.items() if value is not None}
        with self.path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write((_line_end(file) + json.dumps(line, ensure_ascii=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

    def jobs(self) -> list[JobEntry]:
        """Every job as it stands, in the order of the numbers; a line that a crash cut short is passed over."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        jobs: dict[str, JobEntry] = {}
        for line in _lines(text):
            known = jobs.get(line["job"])
            jobs[line["job"]] = _new(line) if known is None else _moved(known, line)
        return sorted(jobs.values(), key=lambda job: job.number)


def _line_end(file: Any) -> str:
    """A line feed if the last writer was killed in the middle of its line."""
    if not file.seek(0, os.SEEK_END):
        return ""
    file.seek(-1, os.SEEK_END)
    return "" if file.read(1) == b"\n" else "\n"


def _lines(text: str) -> Iterable[dict[str, Any]]:
    for raw in text.split("\n"):  # splitlines() would also cut at a line separator inside an error's text
        try:
            line = json.loads(raw)
        except ValueError:
            continue
        if isinstance(line, dict) and {"time", "job", "number", "state"} <= line.keys() and line["state"] in STATES:
            yield line


def _new(line: dict[str, Any]) -> JobEntry:
    time = datetime.fromisoformat(line["time"])
    first = JobEntry(line["job"], line["number"], (), "queued", 0, None, None, time, None, None)
    return _moved(first, line)


def _moved(job: JobEntry, line: dict[str, Any]) -> JobEntry:
    time, state = datetime.fromisoformat(line["time"]), line["state"]
    known_end = state == job.state and job.ended_at is not None  # said again, for its objective
    job = replace(job, state=state, objective=line.get("objective"), error=line.get("error"))
    if state == "queued":
        return replace(job, overrides=tuple(line.get("overrides", job.overrides)), ended_at=None)
    if state == "running":
        return replace(job, attempts=job.attempts + 1, started_at=time, ended_at=None, host=line.get("host"))
    return job if known_end else replace(job, ended_at=time)
