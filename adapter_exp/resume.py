"""Run folders: one living process each, and the unfinished one that a new command should go on with."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapter_exp.tracking.record import RECORD_FILE

LOCK_FILE = ".lock"


@contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold the run folder for this process; the lock ends with the process, however it ends.

    Raises:
        BlockingIOError: if a living process holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / LOCK_FILE).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def find_unfinished(output_root: Path, config_hash: str) -> Path | None:
    """The newest run folder of this configuration that did not end well and that no living process holds."""
    found = [path for path in _records(output_root) if _is_unfinished(path, config_hash) and _is_free(path.parent)]
    return max(found, key=lambda path: path.stat().st_mtime).parent if found else None


def _records(output_root: Path) -> list[Path]:
    return [path for path in output_root.glob(f"*/{RECORD_FILE}") if path.is_file()]


def _is_unfinished(record: Path, config_hash: str) -> bool:
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # a damaged record cannot be told to be of this configuration
    return isinstance(data, dict) and data.get("config_hash") == config_hash and data.get("status") != "ok"


def _is_free(run_dir: Path) -> bool:
    try:
        with locked(run_dir):
            return True
    except BlockingIOError:
        return False
