"""Reader of TERRa: JSON lines in a folder, a zip or one file.

Rows are ``{"premise", "hypothesis", "label", "idx"}``; the published ``test.jsonl`` has no labels.
Source: https://russiansuperglue.com/tasks/task_info/TERRa.
"""

from __future__ import annotations

import difflib
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from adapter_exp.errors import UserError
from adapter_exp.tasks.readers.lines import decode, number_lines, numbered_lines

LABELS = ("entailment", "not_entailment")


@dataclass(frozen=True)
class Pair:
    """One row, quotation marks restored."""

    id: str
    premise: str
    hypothesis: str
    label: str


def read_pairs(path: Path) -> Iterator[Pair]:
    """Rows of one ``.jsonl`` file.

    Raises:
        UserError: naming file and line, if the file is missing, empty or not UTF-8, or a row is no JSON object, lacks
            a field, has no label or an unknown one.
    """
    return _pairs(path, numbered_lines(path))


def read_zipped_pairs(path: Path, member: str) -> Iterator[Pair]:
    """Rows of ``member`` of the zip at ``path``; raises like ``read_pairs``."""
    name = path / member
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            yield from _pairs(name, number_lines(file))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: encrypted
        raise UserError(f"{name}: damaged zip ({error}). Download it again.") from None


def zip_members(path: Path) -> dict[str, str]:
    """The archive's ``.jsonl`` members by base name, in whatever folder they lie.

    Raises:
        UserError: if the archive is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(".jsonl") and not n.startswith("__MACOSX/")]
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{path}: damaged zip ({error}). Download it again.") from None
    return {PurePosixPath(name).name: name for name in names}


def _pairs(path: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[Pair]:
    empty = True
    for number, raw in lines:
        if raw.strip():
            empty = False
            yield _pair(path, number, decode(raw, path, number))
    if empty:
        raise UserError(f"{path}: no rows.")


def _pair(path: Path, number: int, line: str) -> Pair:
    where = f"{path}:{number}"
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg} at column {error.colno}); one object per line.") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: a JSON {type(row).__name__} instead of an object with premise, hypothesis, label.")
    premise, hypothesis = _text(row, "premise", where), _text(row, "hypothesis", where)
    if row.get("label") is None:
        raise UserError(f"{where}: no 'label': unlabelled rows cannot be scored (the published test.jsonl has none).")
    label = row["label"]
    if label not in LABELS:
        near = difflib.get_close_matches(str(label), LABELS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UserError(f"{where}: unknown label '{label}'.{hint} Labels: {', '.join(LABELS)}.")
    return Pair(str(row.get("idx", number - 1)), premise, hypothesis, label)


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: no text in '{key}' (fields found: {', '.join(map(str, row)) or 'none'}).")
    return restore_quotes(value.strip())


def restore_quotes(text: str) -> str:
    """Undo the CSV quoting that the published rows carry: ``"x ""y"" z"`` is ``x "y" z``.

    A text is changed only when all of it is one quoted CSV field; of the published rows that begin with a quotation
    mark every one is.
    """
    if len(text) < 2 or text[0] != '"' or text[-1] != '"' or '"' in text[1:-1].replace('""', ""):
        return text
    return text[1:-1].replace('""', '"').strip()
