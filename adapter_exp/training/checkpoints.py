"""Checkpoints that are whole or absent: published by rename, verified by hash, oldest removed first."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from adapter_exp.data.rendering import TrainingRow
from adapter_exp.errors import UserError
from adapter_exp.files import atomic_folder, sha256_file, write_json_atomic

FOLDER = "checkpoints"
MANIFEST = "files.json"
ROWS = "rows.json"
START_ANEW = "start anew with resume=never (of a sweep: delete the job's folder)"
_NAME = re.compile(r"^step-(\d+)$")


def checkpoint_folders(folder: Path) -> list[Path]:
    """Published checkpoints in ``folder``, oldest step first; temporary ones are never among them."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.match(path.name) and (path / MANIFEST).is_file()]
    return sorted(found, key=lambda path: step_of(path))


def newest_checkpoint(run_dir: Path) -> Path | None:
    """The newest whole checkpoint of a run, verified; None when there is none.

    Raises:
        UserError: if it was damaged since it was written.
    """
    found = checkpoint_folders(run_dir / FOLDER)
    if not found:
        return None
    verify(found[-1])
    return found[-1]


def rows_sha256(*splits: Sequence[TrainingRow]) -> str:
    """Identity of the tokenised rows that a run trains and validates on."""
    digest = hashlib.sha256()
    for rows in splits:
        digest.update(json.dumps([[row.ids, row.prompt_tokens] for row in rows]).encode())
    return digest.hexdigest()


def refuse_other_rows(checkpoint: Path, rows: str) -> None:
    """Compare the rows that a checkpoint was trained on with those at hand.

    Raises:
        UserError: if they differ: going on would be neither the old run nor a new one.
    """
    if json.loads((checkpoint / ROWS).read_text(encoding="utf-8")) != rows:
        raise UserError(
            f"{checkpoint}: was trained on other data than is there now (files or tokenizer changed); "
            f"put the former data back, or {START_ANEW}."
        )


def refuse_other_processes(checkpoint: Path, processes: int) -> None:
    """Compare the number of processes that wrote a checkpoint with those that train now.

    Raises:
        UserError: if they differ: the batches would be of another size from there on.
    """
    found = len(list(checkpoint.glob("rng_state*.pth")))  # each process has random states of its own
    if found != processes:
        raise UserError(
            f"{checkpoint}: was trained by {found} process{'es' * (found > 1)}, this run has {processes}; start as "
            f"many again, or {START_ANEW}."
        )


def step_of(checkpoint: Path) -> int:
    """Optimiser steps done when ``checkpoint`` was written."""
    match = _NAME.match(checkpoint.name)
    if match is None:
        raise ValueError(f"{checkpoint}: not a checkpoint folder")
    return int(match[1])


@contextmanager
def publish(folder: Path, step: int, *, keep: int) -> Iterator[Path]:
    """Yield a staging folder that becomes ``folder/step-N`` with a manifest of hashes; keep the newest ``keep``."""
    with atomic_folder(folder / f"step-{step}") as staging:
        yield staging
        hashes = {
            str(file.relative_to(staging)): sha256_file(file) for file in sorted(staging.rglob("*")) if file.is_file()
        }
        write_json_atomic(staging / MANIFEST, hashes)
    for old in checkpoint_folders(folder)[:-keep]:
        shutil.rmtree(old)


def verify(checkpoint: Path) -> None:
    """Check every file of a checkpoint against its manifest.

    Raises:
        UserError: naming the file that is missing or damaged.
    """
    advice = f"delete {checkpoint} to go on from the checkpoint before it, or {START_ANEW}"
    try:
        hashes = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{checkpoint / MANIFEST}: unreadable checkpoint ({error}); {advice}.") from error
    for name, wanted in hashes.items():
        file = checkpoint / name
        if not file.is_file() or sha256_file(file) != wanted:
            raise UserError(f"{file}: missing or damaged since it was written; {advice}.")
