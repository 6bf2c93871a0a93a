"""A comparison as CSV: one row per run, or one per pair of configurations; numbers in full, names in English."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapter_exp.comparison.model import Comparison, Configuration, Estimate, Group, Refused, Run
from adapter_exp.comparison.scores import quantization_of
from adapter_exp.report.document import plain
from adapter_exp.report.texts import texts

_FORMULA = ("=", "+", "-", "@")


def runs_csv(comparison: Comparison) -> str:
    """One row per run, refused ones too: axes, seed, every metric, costs, status, failed gates.

    ``TASK.METRIC.base``, ``.adapted`` and ``.change`` are the run's own; ``configuration.TASK.METRIC...`` is of all of
    its configuration's seeds: change, absolute and relative, with intervals, test, p raw and corrected, verdict. A run
    of the base alone belongs to no configuration: what is of one stays empty.
    """
    rows = []
    for number, group in enumerate(comparison.groups, 1):
        rows += [_run_row(number, group, one, run) for one in group.configurations for run in one.runs]
        rows += [_run_row(number, group, None, run) for run in group.base_runs]
    return _csv([*rows, *map(_refused_row, comparison.refused)])


def pairs_csv(comparison: Comparison) -> str:
    """One row per pair of configurations, task and metric."""
    rows = []
    for number, group in enumerate(comparison.groups, 1):
        for task in group.tasks:
            for metric in task.metrics:
                for pair in metric.pairs:
                    named = {"first": pair.first, "second": pair.second}
                    rows.append(
                        {"group": number, "task": task.name, "metric": metric.name, **named}
                        | _estimate("difference", pair.difference)
                        | _estimate("relative", pair.relative)
                        | {"p": pair.p, "p_holm": pair.p_holm, "test": pair.test, "verdict": pair.verdict}
                    )
    return _csv(rows)


def _run_row(number: int, group: Group, one: Configuration | None, run: Run) -> dict[str, Any]:
    """``one`` is the run's configuration; None for the base alone."""
    record = run.record
    row: dict[str, Any] = {
        "group": number,
        "folder": str(run.folder),
        "run_id": record["run_id"],
        "status": record["status"],
        "reason": None,
        "configuration": one.name if one else None,
        "kind": one.kind if one else "none",
        "quantization": quantization_of(run),
        "seed": record["seed"],
        "imported": run.imported,
    }
    row |= {f"config.{axis}": one.axes.get(axis) if one else None for axis in group.varying}
    evaluation = record["evaluation"]
    for model in ("base", "adapted", "change"):
        for task, metrics in evaluation.get(model, {}).items():
            row |= {f"{task}.{metric}.{model}": entry["value"] for metric, entry in metrics.items()}
    validation = record["validation"].get("adapted", {})
    for task, metrics in validation.items():
        row |= {f"validation.{task}.{metric}": entry["value"] for metric, entry in metrics.items()}
    return row | _costs(record) | _gates(record) | (_configuration_columns(group, one) if one else {})


def _costs(record: Mapping[str, Any]) -> dict[str, Any]:
    model, resources, training = record["model"], record["resources"], record["training"]
    return {
        "trainable_parameters": model.get("trainable_parameters"),
        "total_parameters": model.get("total_parameters"),
        "adapter_bytes": model.get("adapter_bytes"),
        "wall_s": resources.get("wall_s"),
        "train_s": resources.get("phases_s", {}).get("train"),
        "tokens_per_s": training.get("tokens_per_s"),
        "peak_rss_bytes": resources.get("peak_rss_bytes"),
        "peak_device_bytes": resources.get("peak_device_bytes"),
    }


def _gates(record: Mapping[str, Any]) -> dict[str, Any]:
    failed = [gate for gate in record["gates"] if not gate["passed"]]
    told = [":".join(str(gate[key]) for key in ("name", "task", "model") if gate.get(key)) for gate in failed]
    return {"failed_gates": " ".join(told)}


def _configuration_columns(group: Group, one: Configuration) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for task in group.tasks:
        for metric in task.metrics:
            for row in metric.rows:
                if row.configuration == one.name:
                    name = f"configuration.{task.name}.{metric.name}"
                    found |= _estimate(f"{name}.adapted", row.adapted) | _estimate(f"{name}.change", row.change)
                    found |= _estimate(f"{name}.relative", row.relative)
                    found |= {f"{name}.test": row.test, f"{name}.p": row.p, f"{name}.p_holm": row.p_holm}
                    found[f"{name}.verdict"] = row.verdict
                    found[f"{name}.seed_sd"] = row.seed_sd
    return found


def _estimate(name: str, estimate: Estimate | None) -> dict[str, Any]:
    if estimate is None:
        return {name: None, f"{name}.low": None, f"{name}.high": None}
    return {name: estimate.value, f"{name}.low": estimate.low, f"{name}.high": estimate.high}


def _refused_row(one: Refused) -> dict[str, Any]:
    return {"folder": str(one.folder), "status": "refused", "reason": texts("en").reason(one.reason)}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    columns: Iterable[str] = dict.fromkeys(key for row in rows for key in row)
    names = list(columns)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([_text(name) for name in names])
    writer.writerows([[_value(row.get(name)) for name in names] for row in rows])
    return buffer.getvalue()


def _value(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return _text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _text(text: str) -> str:
    """A text that spreadsheets take for a text: one that begins like a formula gets an apostrophe."""
    cleaned = plain(text)
    return f"'{cleaned}" if cleaned.startswith(_FORMULA) else cleaned
