"""A job in a process of its own: a crash of the interpreter, or the system ending it, ends that job alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import NoReturn, TextIO

from adapter_exp.config import Config
from adapter_exp.errors import UserError
from adapter_exp.sweep.job import STOP_PATIENCE_S
from adapter_exp.tracking.record import RECORD_FILE, RunRecord


class JobProcessDied(RuntimeError):
    """The process of a job ended without closing the job's record."""


def run_in_child(config: Config, run_dir: Path, *, parent_run_id: str | None, terminal: TextIO) -> None:
    """Run one job in a new interpreter and wait for it; its record tells how it ended.

    A child that dies is recorded for it, as ``oom`` when the system killed it, and its MLflow run is closed.

    Raises:
        KeyboardInterrupt: when the user stopped the sweep; the job is stopped first.
    """
    command = [sys.executable, "-X", "faulthandler", "-m", "adapter_exp.sweep.process"]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=terminal, stderr=terminal, text=True, start_new_session=True
    )
    assert child.stdin is not None
    former = _record_as_it_is(run_dir)
    request = {"config": config.model_dump(mode="json"), "run_dir": str(run_dir), "parent_run_id": parent_run_id}
    try:
        with contextlib.suppress(BrokenPipeError):  # it has died already, which its exit code tells
            child.stdin.write(json.dumps(request) + "\n")
            child.stdin.flush()
        code = child.wait()
    except BaseException:
        _stop(child)
        raise
    finally:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
    _close_record(config, run_dir, code, former)


def _stop(child: subprocess.Popen[str]) -> None:
    child.send_signal(signal.SIGINT)
    try:
        child.wait(STOP_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _record_as_it_is(run_dir: Path) -> bytes | None:
    try:
        return (run_dir / RECORD_FILE).read_bytes()
    except FileNotFoundError:
        return None


def _close_record(config: Config, run_dir: Path, code: int, former: bytes | None) -> None:
    """Say in the record how the child died, if it could not say so itself.

    Args:
        former: the record that an earlier attempt left; a child that dies at once leaves it as it was.
    """
    try:
        record = RunRecord.load(run_dir)
    except UserError:
        record = RunRecord.create(
            run_dir,
            run_id=f"{run_dir.parent.name}-{run_dir.name}",
            config=config.model_dump(mode="json"),
            config_hash=config.sha256,
            seed=config.seed,
        )
    if record.data["status"] != "running" and _record_as_it_is(run_dir) != former:
        return  # the child has closed it
    killed = code == -signal.SIGKILL
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    hint = "; that is how the system ends a process when memory runs out" if killed else ""
    record.fail(
        JobProcessDied(f"the job's process ended with {name}{hint}; terminal.log holds its last words"),
        status="oom" if killed else "failed",
    )
    _close_in_mlflow(record)


def _close_in_mlflow(record: RunRecord) -> None:
    from adapter_exp.tracking.replay import replay
    from adapter_exp.tracking.specs import TrackingConfig

    config = TrackingConfig.model_validate(record.data["config"]["tracking"])
    if config.kind == "mlflow":
        with contextlib.suppress(UserError):  # a tracker that is away never ends a sweep; replay can log it later
            replay(record, config, output_root=Path(record.data["config"]["output_dir"]))


def main() -> NoReturn:
    """The child: read the job from standard input, run it, end when the parent is gone."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from adapter_exp.experiment import run_experiment
    from adapter_exp.report.terminal import make_console
    from adapter_exp.session import InSweep

    config = Config.model_validate(request["config"])
    in_sweep = InSweep(make_console(), request["parent_run_id"])
    try:
        run_experiment(config, Path(request["run_dir"]), in_sweep=in_sweep)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _end_with_parent() -> None:
    """Standard input ends when the parent does, however it does; the job then saves and stops."""
    while os.read(0, 4096):  # not sys.stdin, whose lock a thread must not hold when the interpreter ends
        pass
    if threading.main_thread().is_alive():
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
