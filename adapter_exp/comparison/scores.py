"""From predictions to arrays: each model's statistics by document, averaged over its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapter_exp.comparison.model import Configuration, Run
from adapter_exp.comparison.resampling import Array, Scores
from adapter_exp.evaluation.predictions import Prediction
from adapter_exp.evaluation.statistics import ITEMS

BASE, ADAPTED = "base", "adapted"


@dataclass(frozen=True)
class TaskModels:
    """All models of a group on one task.

    Attributes:
        scores: statistics of each model.
        bases: model number of the base by quantisation, over all runs of the group.
        own_base, adapted: model numbers by configuration; the base is that of the configuration's own runs, which is
            another model only where equal bases answered differently (another device or precision).
        by_run: statistics of each adapted run summed over items, by configuration, shape (runs, keys).
        unequal: quantisation -> runs whose base answered differently from the first run's.
    """

    scores: Scores
    bases: Mapping[str, int]
    own_base: Mapping[str, int]
    adapted: Mapping[str, int]
    by_run: Mapping[str, Array]
    unequal: Mapping[str, int]


def task_models(task: str, runs: Sequence[Run], configurations: Sequence[Configuration]) -> TaskModels | None:
    """Arrays of every configuration whose runs all have predictions on ``task``.

    Items are paired by hash and documents are ordered by their first item, so neither the order of a file nor a
    document's name can show in a result.

    Args:
        runs: all runs of the group, those of the base alone included.

    Returns:
        None when no run has predictions of the base.
    """
    with_base = [run for run in runs if (task, BASE) in run.predictions]
    if not with_base:
        return None
    table = _Table(task, with_base)
    bases = {id(run): table.sums(run.predictions[task, BASE]) for run in with_base}
    models: list[Array] = []
    averaged: list[int] = []
    base_of: dict[str, int] = {}
    unequal: dict[str, int] = {}
    for quantization in dict.fromkeys(map(quantization_of, with_base)):
        arrays = [bases[id(run)] for run in with_base if quantization_of(run) == quantization]
        base_of[quantization] = len(models)
        unequal[quantization] = sum(not np.array_equal(arrays[0], other) for other in arrays)
        models.append(_mean(arrays))
        averaged.append(1 if not unequal[quantization] else len(arrays))
    own: dict[str, int] = {}
    adapted: dict[str, int] = {}
    by_run: dict[str, Array] = {}
    for one in configurations:
        if not all((task, model) in run.predictions for run in one.runs for model in (BASE, ADAPTED)):
            continue
        arrays = [bases[id(run)] for run in one.runs]
        own[one.name] = base_of[one.quantization]
        if not np.array_equal(_mean(arrays), models[base_of[one.quantization]]):
            own[one.name] = len(models)
            models.append(_mean(arrays))
            averaged.append(1 if all(np.array_equal(arrays[0], other) for other in arrays) else len(arrays))
        arrays = [table.sums(run.predictions[task, ADAPTED]) for run in one.runs]
        adapted[one.name] = len(models)
        models.append(_mean(arrays))
        averaged.append(len(arrays))
        by_run[one.name] = np.stack([array.sum(axis=0) for array in arrays])
    scores = Scores(table.keys, np.stack(models), tuple(averaged))
    return TaskModels(scores, base_of, own, adapted, by_run, {key: count for key, count in unequal.items() if count})


def quantization_of(run: Run) -> str:
    """How the run's base is stored; ``none`` for full precision."""
    return str(run.record["model"].get("quantization") or "none")


class _Table:
    """Where each item's statistics go: rows are documents, columns statistics."""

    def __init__(self, task: str, runs: Sequence[Run]) -> None:
        rows = [row for run in runs for model in (BASE, ADAPTED) for row in run.predictions.get((task, model), ())]
        self.keys = (*sorted({key for row in rows for key in row.statistics} - {ITEMS}), ITEMS)
        documents: dict[str, int] = {}
        self.document: dict[str, int] = {}
        for row in sorted(runs[0].predictions[task, BASE], key=lambda row: row.item_hash):
            self.document[row.item_hash] = documents.setdefault(row.group, len(documents))
        self.order = {item: number for number, item in enumerate(self.document)}
        self.documents = len(documents)

    def sums(self, rows: Sequence[Prediction]) -> Array:
        """Statistics of one model summed by document, shape (documents, keys)."""
        ordered = sorted(rows, key=lambda row: self.order[row.item_hash])
        values = np.array(
            [[1.0 if key == ITEMS else row.statistics.get(key, 0.0) for key in self.keys] for row in ordered]
        )
        sums = np.zeros((self.documents, len(self.keys)))
        np.add.at(sums, self._documents(ordered), values)
        return sums

    def _documents(self, ordered: Sequence[Prediction]) -> NDArray[np.intp]:
        return np.array([self.document[row.item_hash] for row in ordered], dtype=np.intp)


def _mean(arrays: Sequence[Array]) -> Array:
    """Mean of the arrays; equal ones stay as they are, to the last digit."""
    if all(np.array_equal(arrays[0], other) for other in arrays):
        return arrays[0]
    return np.asarray(np.mean(arrays, axis=0), dtype=np.float64)


def scored_tasks(run: Run) -> list[str]:
    """Tasks with scores of the base or of the adapted model, each once."""
    evaluation = run.record["evaluation"]
    return list(dict.fromkeys(task for model in (BASE, ADAPTED) for task in evaluation.get(model, {})))


def recorded(run: Run, model: str, task: str, metric: str) -> float | None:
    """A metric as the record has it; None where it has none or it was not finite."""
    entry = run.record["evaluation"].get(model, {}).get(task, {}).get(metric)
    value = entry["value"] if entry is not None else None
    return value if value is not None and math.isfinite(value) else None
