"""The jobs of a sweep as views of it show them: short names, counts, the best one, the time that is left."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from adapter_exp.sweep.ledger import STATES, JobEntry, State
from adapter_exp.sweep.plan import varying

STATE_WORDS: Mapping[State, str] = {
    "queued": "waiting",
    "running": "running",
    "ok": "ok",
    "failed": "failed",
    "oom": "out of memory",
    "cancelled": "cancelled",
}
"""How each state is told; also the order in which they are counted."""

WENT_BADLY: frozenset[State] = frozenset({"failed", "oom", "cancelled"})


def names(jobs: Sequence[JobEntry]) -> dict[str, str]:
    """Short name of each job by its hash: its overrides that are not the same in all jobs."""
    keys = varying([job.overrides for job in jobs])
    return {
        job.config_hash: " ".join(text for text in job.overrides if text.split("=", 1)[0] in keys)
        or (" ".join(job.overrides) if len(jobs) == 1 else "")
        for job in jobs
    }


def counts(jobs: Sequence[JobEntry]) -> dict[State, int]:
    """How many jobs are in each state; every state has a number."""
    return {state: sum(job.state == state for job in jobs) for state in STATES}


def told_counts(jobs: Sequence[JobEntry]) -> str:
    """``10 ok, 1 failed, 1 waiting``: the states that occur."""
    found = counts(jobs)
    return ", ".join(f"{found[state]} {word}" for state, word in _TOLD if found[state]) or "no jobs"


def best_job(jobs: Sequence[JobEntry], *, maximise: bool = True) -> JobEntry | None:
    """The finished job with the best objective, the first of equal ones; None while there is none."""
    scored = [(job.objective, job) for job in jobs if job.state == "ok" and _finite(job.objective)]
    if not scored:
        return None
    sign = 1.0 if maximise else -1.0
    return max(scored, key=lambda one: (sign * (one[0] or 0.0), -one[1].number))[1]


def seconds(job: JobEntry, now: datetime) -> float | None:
    """How long the last attempt took, or has taken so far; None before it starts. Clocks of hosts may differ."""
    if job.started_at is None or job.state == "queued":
        return None
    return max(((job.ended_at or now) - job.started_at).total_seconds(), 0.0)


def time_left_s(jobs: Sequence[JobEntry], *, total: int | None, parallel: int, now: datetime) -> float | None:
    """Estimate of the seconds until all jobs have ended; None before the first one has ended well.

    A job is taken to last as long as the finished ones did on average. The first of each of the ``parallel`` processes
    are left out as soon as there are as many others: they also loaded the base and scored it.

    Args:
        total: jobs of the whole sweep; None when a search decides as it goes, which leaves the known ones.
        parallel: how many run at once.
    """
    started = sorted((job for job in jobs if job.state == "ok" and job.started_at), key=_started)
    lasted = [value for job in started if (value := seconds(job, now)) is not None]
    if not lasted:
        return None
    steady = lasted[parallel:] if len(lasted) >= 2 * parallel else lasted
    mean_s = sum(steady) / len(steady)
    running = [max(mean_s - (seconds(job, now) or 0.0), 0.0) for job in jobs if job.state == "running"]
    ended = sum(job.ended for job in jobs)
    waiting = max((len(jobs) if total is None else max(total, len(jobs))) - ended - len(running), 0)
    return max([(sum(running) + waiting * mean_s) / max(parallel, 1), *running])


def read_progress(folder: Path, started_at: datetime | None) -> Mapping[str, Any] | None:
    """What ``progress.json`` says of the attempt that began at ``started_at``; None when there is nothing of it."""
    try:
        status = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        time = datetime.fromisoformat(status["time"])
        known: dict[str, Any] = {
            "phase": str(status["phase"]),
            "note": str(status["note"]),
            "unit": str(status["unit"]),
        }
        known |= {key: int(status[key]) for key in ("done", "total")}
    except (OSError, ValueError, KeyError, TypeError):  # not written yet, or by another version
        return None
    return None if started_at is not None and time < started_at else known


_TOLD: tuple[tuple[State, str], ...] = tuple(
    (state, STATE_WORDS[state]) for state in ("ok", "failed", "oom", "cancelled", "running", "queued")
)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _started(job: JobEntry) -> datetime:
    assert job.started_at is not None
    return job.started_at
