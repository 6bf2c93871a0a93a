"""One job of a sweep: whatever ends it is written down, and the other jobs go on."""

from __future__ import annotations

import contextlib
import io
import math
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

import adapter_exp.resolvers  # noqa: F401 - a worker process of a launcher composes configurations too
from adapter_exp.config import Config, parse_config
from adapter_exp.errors import UserError, first_line
from adapter_exp.files import write_text_atomic
from adapter_exp.resume import is_free
from adapter_exp.sweep.arguments import read_sweep
from adapter_exp.sweep.ledger import Ledger, State
from adapter_exp.tracking.record import ERROR_FILE, RECORD_FILE, RecordData, load_record

TERMINAL_FILE = "terminal.log"
STOP_PATIENCE_S = 120.0
"""A job that is asked to stop finishes its step and saves before it ends."""
NO_OBJECTIVE = math.nan
"""What a job without an objective returns: Optuna takes it for a failed trial."""


@dataclass(frozen=True)
class Ended:
    """How a job ended, as the ledger tells it."""

    state: State
    objective: float | None = None
    error: str | None = None


def sweep_task(composed: DictConfig) -> float:
    """The function that Hydra's launchers call, in this process or in another one.

    Returns:
        the job's objective; NaN when it has none.
    """
    hydra = HydraConfig.get()
    values: Any = OmegaConf.to_container(composed, resolve=True)
    ended = run_job(parse_config(values), Path(hydra.runtime.output_dir), Path(hydra.sweep.dir))
    return NO_OBJECTIVE if ended.objective is None else ended.objective


def run_job(config: Config, run_dir: Path, sweep_dir: Path) -> Ended:
    """Run one job in its numbered folder and keep the ledger.

    Raises:
        KeyboardInterrupt: when the user or the system asked to stop; nothing else.
    """
    ledger, number = Ledger(sweep_dir), int(run_dir.name)
    _wait_for_folder(run_dir)
    former = ended_run(config, run_dir)
    if former is not None and former.state == "ok":  # by a process that has outlived its sweep
        ledger.append(config.sha256, number, "ok", objective=former.objective)
        return former
    ledger.append(config.sha256, number, "running")
    (run_dir / ERROR_FILE).unlink(missing_ok=True)  # of an earlier attempt
    parent = read_sweep(sweep_dir)["mlflow"]["parent_run_id"]
    try:
        run = _in_own_process if config.isolate == "process" else _in_this_process
        ended = run(config, run_dir, parent)
    except KeyboardInterrupt:
        ledger.append(config.sha256, number, "cancelled", error="stopped by the user or the system")
        raise
    ledger.append(config.sha256, number, ended.state, objective=ended.objective, error=ended.error)
    return ended


def _wait_for_folder(run_dir: Path) -> None:
    """A process that lost its sweep to a kill may still be at work on this very job."""
    until = time.monotonic() + STOP_PATIENCE_S
    while not is_free(run_dir) and time.monotonic() < until:
        time.sleep(0.2)


def objective_of(config: Config, record: RecordData) -> float | None:
    """The metric on validation that the sweep searches by, from a run's record."""
    task, metric = config.objective
    found = record["validation"].get("adapted", {}).get(task, {}).get(metric)
    return None if found is None else found["value"]


def ended_run(config: Config, run_dir: Path) -> Ended | None:
    """How the run in ``run_dir`` ended by its own record; None when it did not, or is not of this configuration."""
    if not (run_dir / RECORD_FILE).is_file():
        return None
    try:
        record = load_record(run_dir)
    except UserError:  # cut short or of an older version: the job is run again
        return None
    if record["config_hash"] != config.sha256 or record["status"] == "running":
        return None
    error = record["error"]
    told = first_line(error["type"], error["message"]) if error else None
    return Ended(record["status"], objective_of(config, record) if record["status"] == "ok" else None, told)


def _in_this_process(config: Config, run_dir: Path, parent_run_id: str | None) -> Ended:
    from adapter_exp.experiment import run_experiment
    from adapter_exp.session import InSweep

    try:
        with _terminal_log(run_dir) as console:
            run_experiment(config, run_dir, in_sweep=InSweep(console, parent_run_id))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the other jobs of the sweep go on
        ended = _failed(error, run_dir)
        traceback.clear_frames(error.__traceback__)  # they hold tensors of the job that failed
    else:
        return ended_run(config, run_dir) or Ended("failed", error="RuntimeError: the run has left no record")
    _forget_base()
    return ended


def _in_own_process(config: Config, run_dir: Path, parent_run_id: str | None) -> Ended:
    from adapter_exp.sweep.process import run_in_child

    with _open_log(run_dir) as terminal:
        run_in_child(config, run_dir, parent_run_id=parent_run_id, terminal=terminal)
    return ended_run(config, run_dir) or Ended("failed", error="RuntimeError: the run has left no record")


def _failed(error: BaseException, run_dir: Path) -> Ended:
    """Keep the traceback beside the job, also when it failed before its record was begun."""
    from adapter_exp.session import end_status

    run_dir.mkdir(parents=True, exist_ok=True)
    if not (run_dir / ERROR_FILE).exists():
        with contextlib.suppress(OSError):
            write_text_atomic(run_dir / ERROR_FILE, "".join(traceback.format_exception(error)))
    return Ended(end_status(error), error=first_line(type(error).__name__, str(error)))


def _forget_base() -> None:
    """Let go of the base that a failed job used: the adapter may still hang on it, and memory may be short."""
    from adapter_exp.models.base import release_base
    from adapter_exp.models.quiet import collect_everything

    release_base()
    collect_everything()  # a base that was let go of before its last user ended is there still


@contextmanager
def _terminal_log(run_dir: Path) -> Iterator[Any]:
    """Send what the job prints to its own file, since the terminal belongs to the sweep; yields the job's console."""
    from adapter_exp.report.terminal import make_console

    with _open_log(run_dir) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        yield make_console(file=file)


@contextmanager
def _open_log(run_dir: Path) -> Iterator[TextIO]:
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / TERMINAL_FILE).open("a", encoding="utf-8") as file:
        _line_buffered(file)
        yield file


def _line_buffered(file: TextIO) -> None:
    if isinstance(file, io.TextIOWrapper):
        file.reconfigure(line_buffering=True)
    sys.stdout.flush()
