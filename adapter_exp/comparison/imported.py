"""Figures from elsewhere (a paper, a report) as a run's folder, to be compared and judged by the gates."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from adapter_exp.comparison.runs import PREDICTIONS_FOLDER
from adapter_exp.comparison.tasks import metrics_of, task_of
from adapter_exp.errors import UserError
from adapter_exp.evaluation import gates
from adapter_exp.evaluation.predictions import Prediction, write_predictions
from adapter_exp.files import write_json_atomic
from adapter_exp.tracking.record import RECORD_FILE, RecordData
from adapter_exp.tracking.schema import SCHEMA_VERSION, RecordSchema

Figures = Mapping[str, float]


@dataclass(frozen=True)
class ImportedTask:
    """What is known of one task.

    Attributes:
        role: ``special`` or ``general``.
        primary: the metric that leads.
        base, adapted: metrics by name; for a task with predictions, only the names to show are read from ``base``.
        base_predictions, adapted_predictions: judged items, where they are known. Metrics are then computed from their
            ``statistics`` by the task itself; a statistic that no item has counts as 0.
    """

    role: Literal["special", "general"]
    primary: str
    base: Figures
    adapted: Figures = field(default_factory=dict)
    base_predictions: Sequence[Prediction] = ()
    adapted_predictions: Sequence[Prediction] = ()


def write_imported(
    folder: Path,
    *,
    source: str,
    model: str,
    adapter: Mapping[str, Any],
    tasks: Mapping[str, ImportedTask],
    seed: int = 0,
    quantization: str = "none",
    sizes: Mapping[str, int | None] | None = None,
    resources: Mapping[str, Any] | None = None,
) -> RecordData:
    """Write ``record.json``, and ``predictions/`` where there are any, into ``folder``; returns the record.

    Args:
        source: where the figures come from; figures of one source, model and set of tasks are compared with each other.
        model: the base model's name.
        adapter: its settings, with ``kind``; what differs between records names the configurations.
        sizes: ``trainable_parameters``, ``total_parameters``, ``adapter_bytes``, as far as they are known.
        resources: ``wall_s``, ``peak_rss_bytes``, ``phases_s`` and so on, likewise.

    Raises:
        UserError: for settings without a kind, a task without figures or with a metric that its task does not have, or
            a folder with a record in it.
    """
    if (folder / RECORD_FILE).exists():
        raise UserError(f"{folder}: holds a record already; name a new folder.")
    if "kind" not in adapter:
        raise UserError("adapter.kind: is missing; name the kind, such as lora or mlp.")
    record = _record(folder.name, source, model, adapter, seed, quantization)
    record["model"] |= sizes or {}
    record["resources"] |= resources or {}
    for name, task in tasks.items():
        record["tasks"][name] = {"primary": task.primary, "role": task.role}
        for label, figures in _figures(record, name, task).items():
            entries = {metric: {"value": value, "low": None, "high": None} for metric, value in figures.items()}
            record["evaluation"].setdefault(label, {})[name] = entries
        if task.base_predictions:
            gate = gates.one_label(name, [row.target for row in task.base_predictions])
            record["gates"].append(dataclasses.asdict(gate))
    record["config_hash"] = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    RecordSchema.model_validate(record)
    (folder / PREDICTIONS_FOLDER).mkdir(parents=True, exist_ok=True)
    for name, task in tasks.items():
        for label, rows in _predictions(task).items():
            write_predictions(folder / PREDICTIONS_FOLDER / f"{name}.{label}.jsonl", rows)
    write_json_atomic(folder / RECORD_FILE, record)
    return record


def _record(
    run_id: str, source: str, model: str, adapter: Mapping[str, Any], seed: int, quantization: str
) -> RecordData:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "status": "ok",
        "imported": {"source": source, "imported_at": now},
        "config": {"adapter": dict(adapter), "model": {"name": model}, "quantization": {"kind": quantization}},
        "config_hash": "",
        "seed": seed,
        "started_at": now,
        "finished_at": now,
        "versions": {},
        "git": None,
        "host": {},
        "tasks": {},
        "model": {"name": model, "quantization": quantization},
        "data": {},
        "training": {},
        "evaluation": {},
        "validation": {},
        "gates": [],
        "resources": {},
        "tracking": {"mlflow": {"logged": False, "run_id": None, "reason": "figures imported from elsewhere"}},
        "error": None,
        "non_finite": [],
    }


def _predictions(task: ImportedTask) -> dict[str, Sequence[Prediction]]:
    both = {"base": task.base_predictions, "adapted": task.adapted_predictions}
    return {label: rows for label, rows in both.items() if rows}


def _figures(record: RecordData, name: str, task: ImportedTask) -> dict[str, Figures]:
    """Metrics by model: those given, or those of the predictions under the names given."""
    given = {label: figures for label, figures in (("base", task.base), ("adapted", task.adapted)) if figures}
    if not given:
        raise UserError(f"tasks.{name}: has no figures; give base and adapted metrics.")
    rows = _predictions(task)
    if not rows:
        return given
    if len(rows) < len(given):
        raise UserError(f"tasks.{name}: only one model has predictions; give both or none.")
    found: dict[str, Figures] = {}
    for label, several in rows.items():
        computed = metrics_of(task_of(record, name), several)
        unknown = [metric for metric in task.base if metric not in computed]
        if unknown:
            raise UserError(f"tasks.{name}: '{unknown[0]}' is not a metric of it; it has {', '.join(computed)}.")
        found[label] = {metric: computed[metric] for metric in task.base}
    return found
