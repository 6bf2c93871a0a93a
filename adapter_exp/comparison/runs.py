"""Reads runs and sweeps from their folders; what cannot be read, or contradicts itself, is told and takes no part."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from adapter_exp.comparison.model import Refused, Run, reason
from adapter_exp.comparison.tasks import metrics_of, task_of
from adapter_exp.errors import UserError, first_line
from adapter_exp.evaluation.predictions import Prediction, read_predictions
from adapter_exp.resume import LOCK_FILE
from adapter_exp.sweep.ledger import LEDGER_FILE, Ledger
from adapter_exp.tracking.record import RECORD_FILE, RecordData, load_record
from adapter_exp.tracking.schema import SCHEMA_VERSION
from adapter_exp.training.checkpoints import FOLDER as CHECKPOINTS_FOLDER

PREDICTIONS_FOLDER = "predictions"
MODELS = ("base", "adapted")

_RUN_TRACES = (PREDICTIONS_FOLDER, CHECKPOINTS_FOLDER, LOCK_FILE, "adapter", ".hydra")
_ROUNDING = 1e-6  # a metric of the record and the same from the predictions may differ by so much


class _RefusedError(Exception):
    """A folder takes no part; carries the reason."""

    def __init__(self, code: str, text: str, **values: Any) -> None:
        super().__init__(text)
        self.reason = reason(code, text, **values)


def read_runs(paths: Sequence[Path]) -> tuple[list[Run], list[Refused]]:
    """Read every run in ``paths``.

    Args:
        paths: run folders, and folders of runs: sweeps, or a whole ``outputs``.

    Returns:
        the runs, in the order given and by number within a sweep, and what was refused. Reasons: ``no_folder``,
        ``no_runs``, ``no_record`` (``state``), ``record_damaged`` (``detail``), ``record_schema`` (``found``,
        ``wanted``), ``record_invalid``, ``not_finished`` (``status``, ``error``), ``nothing_scored``,
        ``predictions_missing`` (``file``), ``predictions_damaged`` (``file``, ``detail``), ``duplicate_items``
        (``file``), ``items_differ`` (``task``, ``item``, ``count``), ``task_unknown`` (``task``, ``detail``),
        ``metrics_differ`` (``task``, ``model``, ``metric``, ``record``, ``predictions``), ``same_folder``.

    Raises:
        UserError: if no run is left to compare; one line for each refused folder.
    """
    runs: list[Run] = []
    refused: list[Refused] = []
    seen: set[Path] = set()
    for path in paths:
        for folder, fault in _run_folders(path):
            try:
                if fault is not None:
                    raise fault
                if folder.resolve() in seen:
                    raise _RefusedError("same_folder", "named twice; read once")
                seen.add(folder.resolve())
                runs.append(_read_run(folder))
            except _RefusedError as error:
                refused.append(Refused(folder, error.reason))
    if not runs:
        raise UserError(*_faults(refused))
    return runs, refused


def _faults(refused: Sequence[Refused]) -> list[str]:
    if not refused:
        return ["no folder was named; name run folders or sweep folders."]
    return [f"{one.folder}: {one.reason.values['text']}" for one in refused]


def _run_folders(path: Path) -> Iterator[tuple[Path, _RefusedError | None]]:
    """The run folders that ``path`` stands for; with the reason where one cannot be a run."""
    if not path.is_dir():
        yield path, _RefusedError("no_folder", "is not a folder; name the folder of a run or of a sweep")
        return
    if (path / RECORD_FILE).exists():
        yield path, None
        return
    states = {job.number: job.state for job in Ledger(path).jobs()} if (path / LEDGER_FILE).is_file() else {}
    folders: dict[Path, str] = {path / str(number): state for number, state in states.items()}
    for child in path.iterdir():
        if child.is_dir() and (child.name.isdecimal() or (child / RECORD_FILE).exists() or _looks_like_a_run(child)):
            folders.setdefault(child, "unknown")
    if not folders and _looks_like_a_run(path):
        yield path, _no_record("unknown")
    elif not folders:
        yield path, _RefusedError("no_runs", f"holds no run: neither {RECORD_FILE} nor folders with one")
    for folder in sorted(folders, key=_by_number):
        yield folder, None if (folder / RECORD_FILE).exists() else _no_record(folders[folder])


def _looks_like_a_run(folder: Path) -> bool:
    """Whether a run was here, even if its record is gone; a sweep's own folder is none."""
    return any((folder / name).exists() for name in _RUN_TRACES) and not (folder / LEDGER_FILE).exists()


def _no_record(state: str) -> _RefusedError:
    return _RefusedError("no_record", f"has no {RECORD_FILE} (state of the job: {state})", state=state)


def _by_number(folder: Path) -> tuple[bool, int, str]:
    """Numbered folders first, by number; then the others by name."""
    name = folder.name
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


def _read_run(folder: Path) -> Run:
    record = _read_record(folder)
    if record["status"] != "ok":
        error = record["error"]
        what = first_line(error["type"], error["message"]) if error else None
        text = f"the run did not end well: status is {record['status']}{f' ({what})' if what else ''}"
        raise _RefusedError("not_finished", text, status=record["status"], error=what)
    evaluation = record["evaluation"]
    if not any(evaluation.get(model) for model in MODELS):
        raise _RefusedError("nothing_scored", "the record holds no scores")
    imported = bool(record.get("imported"))
    predictions: dict[tuple[str, str], tuple[Prediction, ...]] = {}
    for model in MODELS:
        for task in evaluation.get(model, {}):
            file = folder / PREDICTIONS_FOLDER / f"{task}.{model}.jsonl"
            if imported and not file.exists():
                continue
            predictions[task, model] = _read_rows(file, task, model)
    _check_pairs(predictions)
    for task, model in predictions:
        _check_metrics(record, task, model, predictions[task, model])
    return Run(folder, record, predictions, imported)


def _read_record(folder: Path) -> RecordData:
    file = folder / RECORD_FILE
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        text = f"{RECORD_FILE} is cut short or damaged ({error})"
        raise _RefusedError("record_damaged", text, detail=str(error)) from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        text = f"{RECORD_FILE} is of schema {version}, this version reads {SCHEMA_VERSION} only"
        raise _RefusedError("record_schema", text, found=version, wanted=SCHEMA_VERSION)
    try:
        return load_record(folder)
    except UserError as error:
        raise _RefusedError("record_invalid", str(error).removeprefix(f"{file}: ")) from None


def _read_rows(file: Path, task: str, model: str) -> tuple[Prediction, ...]:
    name = f"{PREDICTIONS_FOLDER}/{file.name}"
    if not file.is_file():
        text = f"{name} is missing, so {task} cannot be compared item by item"
        raise _RefusedError("predictions_missing", text, file=name)
    try:
        rows = tuple(read_predictions(file))
    except UserError as error:
        text = str(error).replace(str(file), name)
        what = re.sub(r"^(\d+):", r"line \1:", text.removeprefix(f"{name}:").strip())
        detail = re.sub(r"[;,] evaluate again$", "", what)  # the sentence says so
        raise _RefusedError("predictions_damaged", text, file=name, detail=detail) from None
    if not rows:
        text = f"{name}: holds no items"
        raise _RefusedError("predictions_damaged", text, file=name, detail="holds no items")
    if len({row.item_hash for row in rows}) < len(rows):
        text = f"{name}: an item stands in it twice; evaluate again"
        raise _RefusedError("duplicate_items", text, file=name)
    return rows


def _check_pairs(predictions: Mapping[tuple[str, str], Sequence[Prediction]]) -> None:
    """Base and adapted must have answered the same items."""
    for task in {task for task, _ in predictions}:
        if (task, "base") not in predictions or (task, "adapted") not in predictions:
            continue
        base, adapted = ({row.item_hash: row.id for row in predictions[task, model]} for model in MODELS)
        odd = base.keys() ^ adapted.keys()
        if odd:
            item = next((base | adapted)[key] for key in sorted(odd))
            text = (
                f"{task}: base and adapted were not scored on the same items ({len(odd)} differ, the first is '{item}')"
            )
            raise _RefusedError("items_differ", text, task=task, item=item, count=len(odd))


def _check_metrics(record: RecordData, task: str, model: str, rows: Sequence[Prediction]) -> None:
    """The record's metrics must be those of its predictions: else one of the two is of another evaluation."""
    try:
        found = metrics_of(task_of(record, task), rows)
    except UserError as error:
        raise _RefusedError("task_unknown", str(error), task=task, detail=str(error)) from None
    for metric, entry in record["evaluation"][model][task].items():
        value, again = entry["value"], found.get(metric)
        if (
            value is None
            or again is None
            or (math.isfinite(again) and np.isclose(value, again, rtol=0, atol=_ROUNDING))
        ):
            continue
        text = f"{task} ({model}): {metric} is {value:.4f} in the record, but {again:.4f} by the predictions"
        raise _RefusedError(
            "metrics_differ", text, task=task, model=model, metric=metric, record=value, predictions=again
        )
