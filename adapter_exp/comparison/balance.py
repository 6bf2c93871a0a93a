"""Gain against forgetting: the published balance score, the sum of changes, and the Pareto front."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from adapter_exp.comparison.intervals import relative_ends
from adapter_exp.comparison.model import BalanceRow, Configuration, Estimate, MetricRow
from adapter_exp.comparison.resampling import Array
from adapter_exp.comparison.task_comparison import TaskEvidence


def balance_rows(
    configurations: Sequence[Configuration], tasks: Sequence[TaskEvidence], *, confidence: float
) -> tuple[BalanceRow, ...]:
    """One row for each configuration and each pair of a special and a general task that it was scored on."""
    rows: list[BalanceRow] = []
    for special in (one for one in tasks if one.task.role == "special"):
        for general in (one for one in tasks if one.task.role == "general"):
            rows += _rows(configurations, special, general, confidence)
    return tuple(rows)


def f1_metric(evidence: TaskEvidence) -> str:
    """The task's macro F1, taken the same way as its primary metric; the primary metric where it has none."""
    names = [metric.name for metric in evidence.task.metrics]
    way = evidence.task.primary.rpartition("_")[2]
    wanted = ("macro_f1", f"macro_f1_{way}", *(name for name in names if re.fullmatch(r"macro_f1_\w+", name)))
    return next((name for name in wanted if name in names), evidence.task.primary)


@dataclass(frozen=True)
class _Change:
    """A configuration's change on one metric: its row, and base and change over the resamples, where there are any."""

    row: MetricRow
    before: Array | None
    change: Array | None


def _changes(evidence: TaskEvidence, metric: str) -> dict[str, _Change]:
    comparison = next(one for one in evidence.task.metrics if one.name == metric)
    found: dict[str, _Change] = {}
    for row in comparison.rows:
        models, name = evidence.models, row.configuration
        tested = evidence.tests.get(metric)
        if models is None or tested is None or name not in models.adapted or models.scores.documents == 1:
            found[name] = _Change(row, None, None)
            continue
        drawn = tested.resampled
        before = drawn[models.own_base[name]]
        found[name] = _Change(row, before, drawn[models.adapted[name]] - before)
    return found


def _rows(
    configurations: Sequence[Configuration], special: TaskEvidence, general: TaskEvidence, confidence: float
) -> list[BalanceRow]:
    gains, losses = _changes(special, special.task.primary), _changes(general, general.task.primary)
    special_f1, general_f1 = _changes(special, f1_metric(special)), _changes(general, f1_metric(general))
    both = [one for one in configurations if one.name in gains and one.name in losses]
    fronts = _front_shares([_point(one, gains[one.name], losses[one.name]) for one in both])
    rows = []
    for one, share in zip(both, fronts, strict=True):
        gain, loss = gains[one.name].row.change, losses[one.name].row.change
        if gain is None or loss is None:
            continue
        f1 = [changes[one.name] for changes in (special_f1, general_f1) if one.name in changes]
        published, absolute = (_published(f1, confidence), _absolute(f1, confidence)) if len(f1) == 2 else (None, None)
        rows.append(BalanceRow(one.name, special.task.name, general.task.name, gain, loss, published, absolute, share))
    return rows


def _published(parts: Sequence[_Change], confidence: float) -> Estimate | None:
    """Sum of the relative changes."""
    relative = [part.row.relative for part in parts]
    if any(one is None for one in relative):
        return None
    value = sum(one.value for one in relative if one is not None)
    drawn = [(part.change, part.before) for part in parts]
    if any(change is None for change, _ in drawn):
        return Estimate(value)
    # a/b + c/d = (ad + cb) / bd, so that one function treats a base of 0 in the resamples.
    (a, b), (c, d) = ((np.asarray(change), np.asarray(before)) for change, before in drawn)
    low, high = relative_ends((a * d + c * b)[None], (b * d)[None], np.ones(1), confidence)
    return _with_ends(value, float(low[0]), float(high[0]))


def _absolute(parts: Sequence[_Change], confidence: float) -> Estimate | None:
    """Sum of the absolute changes; it also exists where a base scored 0."""
    changes = [part.row.change for part in parts]
    if any(one is None for one in changes):
        return None
    value = sum(one.value for one in changes if one is not None)
    drawn = [part.change for part in parts if part.change is not None]
    if len(drawn) < len(parts):
        return Estimate(value)
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.sum(drawn, axis=0), [tail, 1 - tail])
    return _with_ends(value, float(low), float(high))


def _with_ends(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high) if np.isfinite(low) and np.isfinite(high) else Estimate(value)


@dataclass(frozen=True)
class _Point:
    """Gain and forgetting over the resamples, and trainable parameters; None where one is unknown."""

    gain: Array | None
    loss: Array | None
    parameters: float | None


def _point(one: Configuration, gain: _Change, loss: _Change) -> _Point:
    sizes = [run.record["model"].get("trainable_parameters") for run in one.runs]
    known = [float(size) for size in sizes if size is not None]
    return _Point(gain.change, loss.change, median(known) if known else None)


def _front_shares(points: Sequence[_Point]) -> list[float | None]:
    """Share of the resamples in which no other point is at least as good in all three and better in one."""
    known = [
        number for number, point in enumerate(points)
        if point.gain is not None and point.loss is not None and point.parameters is not None
    ]  # fmt: skip
    shares: list[float | None] = [None] * len(points)
    if not known:
        return shares
    gains = np.stack([np.asarray(points[number].gain) for number in known])
    losses = np.stack([np.asarray(points[number].loss) for number in known])
    sizes = np.array([points[number].parameters for number in known], dtype=np.float64)
    for place, number in enumerate(known):
        shares[number] = float(1 - np.any(_dominates(gains, losses, sizes, place), axis=0).mean())
    return shares


def _dominates(gains: Array, losses: Array, sizes: Array, place: int) -> NDArray[np.bool_]:
    """Whether each point is better than the one at ``place`` in each resample, shape (points, resamples)."""
    as_good = (gains >= gains[place]) & (losses >= losses[place]) & (sizes <= sizes[place])[:, None]
    better = (gains > gains[place]) | (losses > losses[place]) | (sizes < sizes[place])[:, None]
    found: NDArray[np.bool_] = as_good & better
    return found
