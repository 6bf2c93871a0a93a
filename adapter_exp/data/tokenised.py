"""Training rows of a split, kept on disk so that a sweep tokenises once."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from adapter_exp.data.fingerprint import code_sha256, dataset_fingerprint
from adapter_exp.data.rendering import TEMPLATE_DATE, Renderer, TrainingRow
from adapter_exp.errors import UserError
from adapter_exp.tasks.protocol import Example, Task

_FORMAT = 1
_MAX_FAULTS = 5


def tokenise(
    task: Task, examples: Sequence[Example], renderer: Renderer, *, tokenizer_sha256: str, cache_dir: Path | None
) -> list[TrainingRow]:
    """One row for each example, in order.

    Args:
        tokenizer_sha256: identity of the tokenizer's files, the chat template's among them.
        cache_dir: rows are kept in ``cache_dir/tokenised``; a damaged file there is computed again. None: not kept.

    Raises:
        UserError: for each example (the first five) whose target is empty, or whose prompt leaves no room for even
            one token of its answer; the line names the item, its tokens and the limit.
    """
    if cache_dir is None:
        return _rows(task, examples, renderer)
    path = cache_dir / "tokenised" / f"{_key(task, examples, renderer, tokenizer_sha256)}.npz"
    rows = _read(path)
    if rows is None or len(rows) != len(examples):
        rows = _rows(task, examples, renderer)
        _write(path, rows)
    return rows


def _rows(task: Task, examples: Sequence[Example], renderer: Renderer) -> list[TrainingRow]:
    rows: list[TrainingRow] = []
    faults: list[str] = []
    for example in examples:
        target = task.target(example)
        if not target.strip():
            faults.append(f"task {task.name}: item '{example.id}' has an empty target: there is nothing to learn.")
            continue
        row = renderer.training_row(task.prompt(example), target)
        if row.prompt_tokens >= renderer.max_length:
            faults.append(
                f"task {task.name}: the prompt of item '{example.id}' has {row.prompt_tokens} tokens, the limit is "
                f"{renderer.max_length} (model.max_length), so nothing of its answer fits. "
                "Raise the limit or leave out long texts."
            )
        rows.append(row)
    if faults:
        more = [f"task {task.name}: {len(faults) - _MAX_FAULTS} more items like these."]
        raise UserError(*faults[:_MAX_FAULTS], *(more if len(faults) > _MAX_FAULTS else []))
    return rows


def _key(task: Task, examples: Sequence[Example], renderer: Renderer, tokenizer_sha256: str) -> str:
    """64 hex digits over everything that can change a row."""
    facts = {
        "format": _FORMAT,
        "data": dataset_fingerprint(task, examples),
        "system": renderer.system,
        "tokenizer": tokenizer_sha256,
        "chat": renderer.chat,
        "date": TEMPLATE_DATE,
        "max_length": renderer.max_length,
        "code": code_sha256(),
        "versions": [version("transformers"), version("tokenizers")],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> list[TrainingRow] | None:
    """The rows at ``path``; None when there is no file or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            ids, lengths = arrays["ids"].tolist(), arrays["lengths"].tolist()
            prompts, truncated = arrays["prompt_tokens"].tolist(), arrays["truncated"].tolist()
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    if len(prompts) != len(lengths) or len(truncated) != len(lengths) or (ends[-1] if ends else 0) != len(ids):
        return None
    return [
        TrainingRow(ids[end - length : end], prompt_tokens, cut)
        for end, length, prompt_tokens, cut in zip(ends, lengths, prompts, truncated, strict=True)
    ]


def _write(path: Path, rows: Sequence[TrainingRow]) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        ids=np.array([token for row in rows for token in row.ids], np.int32),
        lengths=np.array([len(row.ids) for row in rows], np.int32),
        prompt_tokens=np.array([row.prompt_tokens for row in rows], np.int32),
        truncated=np.array([row.truncated for row in rows], np.bool_),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # One file renamed over another: two jobs that write the same rows at once do no harm.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(buffer.getvalue())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
