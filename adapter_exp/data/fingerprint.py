"""Identities: of one item, so that models are compared on the same ones, of a whole split, and of the code at work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adapter_exp.tasks.protocol import Example, Task

PACKAGE = Path(__file__).resolve().parents[1]
_NUMBER_MAKING = ("data", "engine", "evaluation", "models", "tasks")


def item_hash(task_name: str, content: Mapping[str, Any]) -> str:
    """16 hex digits that are equal for equal items of a task, whatever their ids, order or file."""
    return _sha256([task_name, content])[:16]


def dataset_fingerprint(task: Task, examples: Iterable[Example]) -> str:
    """64 hex digits over the items in their order and every text that the model is given or should give."""
    rows = [[item_hash(task.name, task.content(e)), task.prompt(e), task.target(e)] for e in examples]
    return _sha256([task.name, task.version, task.system, rows])


def code_sha256(package: Path = PACKAGE) -> str:
    """64 hex digits over the code that tokenises, asks and judges: what it made is not read after an edit."""
    digest = hashlib.sha256()
    for file in sorted(file for part in _NUMBER_MAKING for file in (package / part).rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
