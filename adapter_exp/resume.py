"""Run folders: one living process each, and the unfinished one that a new command should go on with."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from adapter_exp.errors import UserError
from adapter_exp.tracking.record import RECORD_FILE

LOCK_FILE = ".lock"
_OF_HYDRA = (".hydra", "run.log", "multirun.yaml")  # what Hydra puts into a folder before a run or a sweep begins


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run folder for this process; the lock ends with the process, however it ends.

    Raises:
        BlockingIOError: if a living process holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / LOCK_FILE).open("w") as file:
        _take(file)
        yield


def _take(file: TextIO) -> None:
    for _ in range(10):  # somebody who only asks holds it for a moment
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def find_unfinished(output_root: Path, config_hash: str) -> Path | None:
    """The newest run folder of this configuration that did not end well and that no living process holds."""
    found = [path for path in _records(output_root) if _is_unfinished(path, config_hash) and is_free(path.parent)]
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def is_job_of(run_dir: Path, config_hash: str) -> bool:
    """Whether a sweep's job of this configuration began in ``run_dir``, its own folder by the ledger.

    A record that is no longer JSON is put aside, since no attempt could ever end with it; the checkpoints are checked
    one by one when they are read.
    """
    record = run_dir / RECORD_FILE
    if not record.is_file():
        return False
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        record.replace(record.with_name(f"{RECORD_FILE}.damaged"))
        return True
    return isinstance(data, dict) and data.get("config_hash") == config_hash


def refuse_used(run_dir: Path, unfinished: Path | None) -> None:
    """Keep a new run out of the folder of another, whose record, predictions and checkpoints it would mix with its own.

    Args:
        unfinished: the run that is about to be taken up, if any; its own folder is no other's.

    Raises:
        UserError: if ``run_dir`` holds a record.
    """
    if unfinished is None and (run_dir / RECORD_FILE).exists():
        raise UserError(f"{run_dir}: holds another run already; choose another folder, or move that one away.")


def remove_unused(run_dir: Path) -> None:
    """Remove the folder that Hydra made for a run that did not begin; one with anything else in it stays whole."""
    if not run_dir.is_dir() or any(path.name not in _OF_HYDRA for path in run_dir.iterdir()):
        return
    shutil.rmtree(run_dir, ignore_errors=True)


def _records(output_root: Path) -> list[Path]:
    return [path for path in output_root.glob(f"*/{RECORD_FILE}") if path.is_file()]


def _is_unfinished(record: Path, config_hash: str) -> bool:
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # a damaged record cannot be told to be of this configuration
    return isinstance(data, dict) and data.get("config_hash") == config_hash and data.get("status") != "ok"


def is_free(run_dir: Path) -> bool:
    """Whether no living process holds the run folder."""
    if not (run_dir / LOCK_FILE).exists():  # asking leaves no file behind
        return True
    try:
        with (run_dir / LOCK_FILE).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
