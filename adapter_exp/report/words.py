"""Numbers and findings in plain words, the same in tables and plots."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from adapter_exp.evaluation.gates import Finding, withheld_by

HIGHER, LOWER, TIE, WITHHELD, UNKNOWN = "higher", "lower", "no difference shown", "withheld", "not measured"

_FINDINGS: Mapping[Finding, str] = {"higher": HIGHER, "lower": LOWER, "tie": TIE}


def verdict(change: Mapping[str, float | None] | None, *, withheld: Collection[str] = ()) -> str:
    """What a paired interval of the change shows: ``higher`` or ``lower`` only where it excludes 0.

    Args:
        withheld: findings that may not be told, see ``withheld_findings``.
    """
    if change is None or change["low"] is None or change["high"] is None:
        return UNKNOWN
    found = HIGHER if change["low"] > 0 else LOWER if change["high"] < 0 else TIE
    return WITHHELD if found in withheld else found


def failed_gates(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The gates that did not pass, in the record's order."""
    return [gate for gate in record["gates"] if not gate["passed"]]


def withheld_findings(record: Mapping[str, Any], task: str) -> frozenset[str]:
    """Findings on the change that failed gates withhold on ``task``; a gate without a task withholds on all."""
    gates = [gate for gate in failed_gates(record) if gate.get("task") in (None, task)]
    return frozenset(_FINDINGS[found] for gate in gates for found in withheld_by(gate))


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
