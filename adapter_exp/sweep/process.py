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
from typing import Literal, NoReturn, TextIO

from adapter_exp.config import Config
from adapter_exp.errors import UserError
from adapter_exp.sweep.dead import close_dead
from adapter_exp.sweep.job import STOP_PATIENCE_S
from adapter_exp.tracking.record import RECORD_FILE, load_record


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
    if not _has_closed(run_dir, former):
        close_dead(config, run_dir, *_how_it_died(code))


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


def _has_closed(run_dir: Path, former: bytes | None) -> bool:
    """Whether the child has closed its record itself.

    Args:
        former: the record that an earlier attempt left; a child that dies at once leaves it as it was.
    """
    try:
        return load_record(run_dir)["status"] != "running" and _record_as_it_is(run_dir) != former
    except UserError:
        return False


def _how_it_died(code: int) -> tuple[str, Literal["failed", "oom"]]:
    killed = code == -signal.SIGKILL
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    hint = "; that is how the system ends a process when memory runs out" if killed else ""
    return (
        f"the job's process ended with {name}{hint}; terminal.log holds its last words",
        "oom" if killed else "failed",
    )


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
