"""Hands a sweep's jobs to Hydra's launcher, whatever becomes of the processes that it runs them in."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from hydra.core.utils import JobReturn

from adapter_exp.errors import first_line
from adapter_exp.resume import is_free
from adapter_exp.sweep.arguments import quoted
from adapter_exp.sweep.dead import close_dead
from adapter_exp.sweep.job import STOP_PATIENCE_S
from adapter_exp.sweep.ledger import Ledger
from adapter_exp.sweep.plan import PlannedJob

Launch = Callable[[list[list[str]], int], Sequence[JobReturn]]
"""Hydra's own launcher: lists of overrides and the number of the first -> what the jobs returned."""


def launch_all(ledger: Ledger, jobs: Sequence[PlannedJob], launch: Launch) -> None:
    """Launch queued jobs until none of them waits.

    A worker that dies can take a pool of workers with it. The jobs that were running then are launched again one at
    a time, so that only the one whose process dies once more has failed; those that were waiting are launched anew.

    Raises:
        KeyboardInterrupt: when the user or the system stopped the sweep; jobs that ran on this host are closed.
        Exception: what the launcher raises although no job's process has died.
    """
    waiting = list(jobs)
    while waiting:
        overrides = [[*job.overrides, *_place(ledger.folder, job)] for job in waiting]
        try:
            launch(overrides, waiting[0].number)
        except KeyboardInterrupt as error:
            here = socket.gethostname()
            _wait_for_living(ledger, waiting, on_host=here, patience_s=STOP_PATIENCE_S)  # they may be saving
            _close(ledger, _dead(ledger, waiting, on_host=here), error, "cancelled")
            raise
        except Exception as error:  # each launcher has its own kinds; what is no dead worker is raised again
            _wait_for_living(ledger, waiting)  # some launchers give up while jobs of other workers go on
            dead = _dead(ledger, waiting)
            if not dead:
                raise
            if len(dead) == 1:
                _close(ledger, dead, error, "failed")
            else:
                _one_at_a_time(ledger, dead, launch)
        queued = _in_state(ledger, waiting, "queued")
        if len(queued) == len(waiting):
            raise RuntimeError("the launcher has started none of the jobs")
        waiting = queued


def _one_at_a_time(ledger: Ledger, jobs: Sequence[PlannedJob], launch: Launch) -> None:
    for job in jobs:
        ledger.append(job.config_hash, job.number, "queued")
    for job in jobs:
        launch_all(ledger, [job], launch)


def _place(folder: Path, job: PlannedJob) -> list[str]:
    """The job's own folder, whatever number the launcher would give it, in whatever process it composes."""
    return [f"hydra.sweep.dir={quoted(str(folder))}", f"hydra.sweep.subdir='{job.number}'"]


def _in_state(
    ledger: Ledger, jobs: Sequence[PlannedJob], state: Literal["queued", "running"], on_host: str | None = None
) -> list[PlannedJob]:
    """Those in this state by the ledger; with ``on_host`` only those of that host."""
    found = [entry for entry in ledger.jobs() if entry.state == state and on_host in (None, entry.host)]
    hashes = {entry.config_hash for entry in found}
    return [job for job in jobs if job.config_hash in hashes]


def _dead(ledger: Ledger, jobs: Sequence[PlannedJob], on_host: str | None = None) -> list[PlannedJob]:
    """Those that run by the ledger, in a process that is gone."""
    running = _in_state(ledger, jobs, "running", on_host)
    return [job for job in running if is_free(ledger.folder / str(job.number))]


def _wait_for_living(
    ledger: Ledger, jobs: Sequence[PlannedJob], *, on_host: str | None = None, patience_s: float = math.inf
) -> None:
    until = time.monotonic() + patience_s
    while len(_dead(ledger, jobs, on_host)) < len(_in_state(ledger, jobs, "running", on_host)):
        if time.monotonic() > until:
            return
        time.sleep(0.5)


def _close(
    ledger: Ledger, dead: Sequence[PlannedJob], error: BaseException, state: Literal["failed", "cancelled"]
) -> None:
    why = f"its process died; {first_line(type(error).__name__, str(error))}"
    for job in dead:
        close_dead(job.config, ledger.folder / str(job.number), why, state)
        ledger.append(job.config_hash, job.number, state, error=why)
