"""Numbers and findings in plain words, the same in tables and plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HIGHER, LOWER, TIE, WITHHELD, UNKNOWN = "higher", "lower", "no difference shown", "withheld", "not measured"


def verdict(change: Mapping[str, float | None] | None, *, withheld: bool = False) -> str:
    """What a paired interval of the change shows: ``higher`` or ``lower`` only where it excludes 0."""
    if change is None or change["low"] is None or change["high"] is None:
        return UNKNOWN
    if withheld:
        return WITHHELD
    if change["low"] > 0:
        return HIGHER
    return LOWER if change["high"] < 0 else TIE


def failed_gates(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The gates that did not pass, in the record's order."""
    return [gate for gate in record["gates"] if not gate["passed"]]


def withheld_tasks(record: Mapping[str, Any]) -> set[str]:
    """Tasks on which a failed gate withholds what is said of the change; a gate without a task withholds all.

    A gate that only the base fails withholds claims about the base: an untuned model that cannot read the asked format
    is what training sets out to change.
    """
    tasks: set[str] = set()
    for gate in (gate for gate in failed_gates(record) if gate.get("model") != "base"):
        tasks |= {gate["task"]} if gate.get("task") else set(task_names(record))
    return tasks


def task_names(record: Mapping[str, Any]) -> list[str]:
    """Evaluated tasks, the special ones first."""
    evaluation, entries = record["evaluation"], record["tasks"]
    found = dict.fromkeys(task for model in ("base", "adapted") for task in evaluation.get(model, {}))
    return sorted(found, key=lambda task: entries.get(task, {}).get("role") != "special")


def metric_names(record: Mapping[str, Any], task: str) -> list[str]:
    """Metrics of ``task``, the primary one first."""
    evaluation = record["evaluation"]
    found = dict.fromkeys(metric for model in ("base", "adapted") for metric in evaluation.get(model, {}).get(task, {}))
    return sorted(found, key=lambda metric: metric != primary_metric(record, task))


def primary_metric(record: Mapping[str, Any], task: str) -> str | None:
    """The metric that headlines use for ``task``."""
    entry = record["tasks"].get(task)
    return None if entry is None else str(entry["primary"])


def result(record: Mapping[str, Any], model: str, task: str, metric: str) -> Mapping[str, float | None] | None:
    """``{value, low, high}`` of one evaluation; None when it was not made."""
    found: Mapping[str, float | None] | None = record["evaluation"].get(model, {}).get(task, {}).get(metric)
    return found


def number(value: float | None, *, signed: bool = False) -> str:
    """A metric, to three decimals while it is small."""
    if value is None:
        return "-"
    sign = "+" if signed else ""
    return f"{value:{sign}.3f}" if abs(value) < 100 else f"{value:{sign}.1f}"


def duration(seconds: float) -> str:
    """``8.4 s``, ``3 min 15 s`` or ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count_bytes: float) -> str:
    """Bytes in binary units, ``1.8 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if count_bytes < 1024:
            return f"{count_bytes:.0f} {unit}" if unit == "B" else f"{count_bytes:.1f} {unit}"
        count_bytes /= 1024
    return f"{count_bytes:.1f} GiB"
