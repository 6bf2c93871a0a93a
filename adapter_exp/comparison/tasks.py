"""The tasks of a record, and their metrics from summed statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from adapter_exp.errors import UserError
from adapter_exp.evaluation.predictions import Prediction
from adapter_exp.evaluation.statistics import ITEMS
from adapter_exp.files import conf_folder
from adapter_exp.tasks.protocol import Task
from adapter_exp.tasks.registry import build_task, config_class
from adapter_exp.tracking.record import RecordData


def task_settings(record: RecordData, name: str) -> dict[str, Any]:
    """Settings of task ``name`` as the run had them; the shipped ones for a record that does not say (imported)."""
    config = record["config"]
    trained = config.get("task") or {}
    scored = (config.get("eval") or {}).get("tasks") or {}
    if trained.get("name") == name:
        return dict(trained)
    if name in scored:
        return dict(scored[name])
    file = conf_folder() / "task" / f"{name}.yaml"
    return dict(yaml.safe_load(file.read_text(encoding="utf-8"))) if file.is_file() else {"name": name}


def task_of(record: RecordData, name: str) -> Task:
    """The task that a run was scored on, for its ``aggregate``.

    Raises:
        UserError: if there is no such task now, or its settings are of another program version.
    """
    kind = config_class(name)
    try:
        return build_task(kind.model_validate(task_settings(record, name)))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"task {name}: {key}: {first['msg']}; the record is of another version") from None


class Statistics(dict[str, Any]):
    """Summed statistics by name; one that no item has sums to 0 (imported predictions hold only some)."""

    def __missing__(self, key: str) -> Any:
        return np.zeros_like(self[ITEMS])


def metrics_of(task: Task, rows: Sequence[Prediction]) -> dict[str, float]:
    """Metrics of judged items, each statistic summed."""
    keys = {key for row in rows for key in row.statistics}
    sums = Statistics({key: np.asarray(sum(row.statistics.get(key, 0.0) for row in rows)) for key in keys})
    sums[ITEMS] = np.asarray(float(len(rows)))
    return {name: float(value) for name, value in task.aggregate(sums).items()}
