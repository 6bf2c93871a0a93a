"""The base model's answers on a task, kept on disk: a sweep asks the base once for all of its adapters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from adapter_exp.data.fingerprint import code_sha256
from adapter_exp.errors import UserError
from adapter_exp.evaluation.predictions import Prediction, read_predictions, write_predictions

FOLDER = "base_scores"


def base_predictions(
    cache_dir: Path, key: str, evaluate: Callable[[], list[Prediction]]
) -> tuple[list[Prediction], bool]:
    """The predictions under ``key``, made by ``evaluate`` if they are not there or their file is damaged.

    Processes that want the same ones at once wait for the first to make them.

    Args:
        key: of ``cache_key``.

    Returns:
        the predictions, and whether they came from the disk.
    """
    folder = cache_dir / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key}.jsonl"
    with FileLock(folder / f".{key}.lock"):
        known = _read(path)
        if known is not None:
            return known, True
        made = evaluate()
        write_predictions(path, made)
        return made, False


def cache_key(evaluation_key: str, *, double_quant: bool, processor: str) -> str:
    """Name of a file of predictions: everything that can change them.

    Args:
        evaluation_key: of ``evaluate.evaluation_key``: checkpoint, quantisation, items, texts, token ids, settings,
            library versions.
        double_quant: whether the scales of the quantised weights are quantised too.
        processor: of ``resources.processor_name``: another one, or another number of threads, rounds otherwise.
    """
    facts = [evaluation_key, double_quant, processor, code_sha256()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read(path: Path) -> list[Prediction] | None:
    """The rows at ``path``; None when there is no file, or a damaged one, which is then made anew."""
    if not path.is_file():
        return None
    try:
        rows = read_predictions(path)
    except UserError:
        return None
    return rows or None
