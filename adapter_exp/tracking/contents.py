"""What MLflow is told about a run: pure functions of the record, within MLflow's limits on names and sizes."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from adapter_exp.tracking.record import RecordData

RUN_ID_TAG = "adapter_exp.run_id"
COMPLETE_TAG = "adapter_exp.complete"
PARENT_TAG = "mlflow.parentRunId"
TRAINING_LOSS = "training/loss"
VALIDATION_LOSS = "training/validation_loss"
LIVE = (TRAINING_LOSS, VALIDATION_LOSS)

MAX_NAME = 250
MAX_PARAMETER = 6000
MAX_TAG = 8000
MAX_DIGEST = 36

STATUS = {"ok": "FINISHED", "failed": "FAILED", "oom": "FAILED", "cancelled": "KILLED", "running": "KILLED"}
"""A record still ``running`` when it is closed belongs to a process that was killed."""


@dataclass(frozen=True)
class Point:
    """One value of a curve."""

    name: str
    step: int
    value: float
    time_ms: int


@dataclass(frozen=True)
class DatasetEntry:
    """One split of a task, identified by its fingerprint."""

    name: str
    split: str
    digest: str
    profile: str


def parameters(record: RecordData) -> dict[str, str]:
    """The configuration, flattened to dotted names; a value too long for MLflow is cut and says so."""
    flat = dict(_flatten(record["config"]))
    names = safe_names(flat)
    return {names[key]: _cut(value, MAX_PARAMETER) for key, value in flat.items()}


def metrics(record: RecordData) -> dict[str, float]:
    """Every single number of the record: evaluations, sizes, resources; nulls are left out.

    Intervals are given for each task's primary metric; with those of all metrics a run had 245 numbers, too many to
    find one in MLflow. The rest are in the record, which is among the run's files. ``evaluation/baseline`` holds the
    trivial answers' scores, which have no interval.
    """
    values: dict[str, float | None] = {}
    primary = {(task, entry["primary"]) for task, entry in record["tasks"].items()}
    for section, models in (("evaluation", ("base", "adapted", "change", "baseline")), ("validation", ("adapted",))):
        for model in models:
            for task, results in record[section].get(model, {}).items():
                for metric, interval in results.items():
                    name = f"{section}/{model}/{task}/{metric}"
                    values[name] = interval["value"]
                    if (task, metric) in primary:
                        values |= {f"{name}_low": interval["low"], f"{name}_high": interval["high"]}
    for section in ("model", "training", "resources"):
        values |= _numbers(section, record[section])
    values["gates/failed"] = sum(not gate["passed"] for gate in record["gates"])
    kept = {name: float(value) for name, value in values.items() if value is not None}
    names = safe_names(kept)
    return {names[name]: value for name, value in kept.items()}


def curves(record: RecordData) -> list[Point]:
    """The loss curves; values that were not finite are left out (the record lists them)."""
    time_ms = milliseconds(record["finished_at"] or record["started_at"])
    series = ((TRAINING_LOSS, "loss"), (VALIDATION_LOSS, "validation_loss"))
    return [
        Point(name, point["step"], float(point["loss"]), time_ms)
        for name, key in series
        for point in record["training"].get(key, [])
        if point["loss"] is not None
    ]


def tags(record: RecordData) -> dict[str, str]:
    """Tags to find and filter runs by, and a description that says what a failed gate withholds."""
    git = record["git"] or {}
    primary = [f"{task}/{entry['primary']}" for task, entry in record["tasks"].items() if entry["role"] == "special"]
    named = {
        RUN_ID_TAG: record["run_id"],
        "status": record["status"],
        "adapter": record["config"].get("adapter", {}).get("kind"),
        "model": record["model"].get("name"),
        "quantization": record["model"].get("quantization"),
        "config_hash": record["config_hash"],
        "primary_metric": ", ".join(primary),
        PARENT_TAG: record["tracking"].get("mlflow", {}).get("parent_run_id"),
        "mlflow.source.name": "adapter_exp",
        "mlflow.source.git.commit": git.get("commit"),
        "git_dirty": git.get("dirty"),
        "mlflow.note.content": _description(record),
    }
    return {key: _cut(str(value), MAX_TAG) for key, value in named.items() if value not in (None, "")}


def datasets(record: RecordData) -> list[DatasetEntry]:
    """The splits that the run read; the profile holds the counts."""
    return [
        DatasetEntry(
            name=task,
            split=split,
            digest=str(entry["fingerprint"])[:MAX_DIGEST],
            profile=json.dumps({"num_rows": entry.get("items"), **entry}, ensure_ascii=False),
        )
        for task, splits in record["data"].items()
        for split, entry in splits.items()
        if isinstance(entry, Mapping) and entry.get("fingerprint")
    ]


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Map each name to one that MLflow accepts, different names to different ones.

    MLflow allows word characters, ``_ - . space : /``, at most 250 of them, and no name that a file path would
    shorten (``a//b``, ``./a``).
    """
    safe: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        cleaned = posixpath.normpath(re.sub(r"[^/\w.\- :]", "_", name)[:MAX_NAME]).lstrip("/.") or "_"
        candidate, copy = cleaned, 2
        while candidate in taken:
            ending = f"_{copy}"
            candidate, copy = cleaned[: MAX_NAME - len(ending)] + ending, copy + 1
        taken.add(candidate)
        safe[name] = candidate
    return safe


def milliseconds(time_iso: str) -> int:
    """Unix time in milliseconds of a record's time stamp."""
    return int(datetime.fromisoformat(time_iso).timestamp() * 1000)


def _flatten(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and (value or not prefix):
        for key, item in value.items():
            yield from _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _numbers(prefix: str, value: Any) -> dict[str, float | None]:
    if isinstance(value, Mapping):
        found: dict[str, float | None] = {}
        for key, item in value.items():
            found |= _numbers(f"{prefix}/{key}", item)
        return found
    return {prefix: value} if isinstance(value, int | float) and not isinstance(value, bool) else {}


def _description(record: RecordData) -> str:
    lines = [
        f"- gate `{gate['name']}` failed ({_scope(gate)}): {gate['reason']}"
        for gate in record["gates"]
        if not gate["passed"]
    ]
    if record["error"]:
        lines.append(f"- {record['error']['type']}: {record['error']['message']}")
    return "\n".join(lines)


def _scope(gate: Mapping[str, Any]) -> str:
    task = gate.get("task") or "all tasks"
    return f"{task}, {gate['model']} model" if gate.get("model") else task


def _cut(value: str, limit: int) -> str:
    ending = f" ... [cut, {len(value)} characters]"
    return value if len(value) <= limit else value[: limit - len(ending)] + ending
