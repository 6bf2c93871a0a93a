"""Ratios over arrays of any shape; the building blocks of every task's ``aggregate``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adapter_exp.tasks.protocol import Task

Array = NDArray[np.float64]


class _Nothing(dict[str, Array]):
    """Sums over no items: every statistic is 0."""

    def __missing__(self, key: str) -> Array:
        return np.zeros(())


def metric_names(task: Task) -> tuple[str, ...]:
    """Names of all metrics of ``task``; nothing is read for it."""
    return tuple(task.aggregate(_Nothing()))


def ratio(part: Array, whole: Array) -> Array:
    """``part / whole``, 0 where ``whole`` is 0; shape (...)."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.zeros(whole.shape), where=whole != 0)


def harmonic_mean(precision: Array, recall: Array) -> Array:
    """F1 of a precision and a recall, 0 where both are 0; shape (...)."""
    return ratio(2 * precision * recall, precision + recall)


def precision_recall_f1(tp: Array, fp: Array, fn: Array) -> tuple[Array, Array, Array]:
    """Precision, recall and F1 from counts of true positives, false positives and false negatives; shapes (...)."""
    precision, recall = ratio(tp, tp + fp), ratio(tp, tp + fn)
    return precision, recall, harmonic_mean(precision, recall)
