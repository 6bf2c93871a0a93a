"""Gain against forgetting: the published balance score, the sum of changes, and the Pareto front."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from adapter_exp.comparison.intervals import percentile_ends
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
    f1 = {one.name: (special_f1.get(one.name), general_f1.get(one.name)) for one in both}
    published = {name: _published(*parts) for name, parts in f1.items()}
    absolute = {name: _absolute(*parts) for name, parts in f1.items()}
    published_behind, absolute_behind = _behind(published, confidence), _behind(absolute, confidence)
    rows = []
    for one, share in zip(both, fronts, strict=True):
        gain, loss = gains[one.name].row.change, losses[one.name].row.change
        if gain is None or loss is None:
            continue
        rows.append(
            BalanceRow(
                configuration=one.name,
                special=special.task.name,
                general=general.task.name,
                gain=gain,
                forgetting=loss,
                published=_estimate(published[one.name], confidence),
                absolute=_estimate(absolute[one.name], confidence),
                on_front=share,
                published_behind=published_behind.get(one.name),
                absolute_behind=absolute_behind.get(one.name),
            )
        )
    return rows


@dataclass(frozen=True)
class _Sum:
    """A balance score on the items themselves, and over the resamples where there are any."""

    value: float
    drawn: Array | None


def _published(special: _Change | None, general: _Change | None) -> _Sum | None:
    """Sum of the relative changes; None where a base scored 0."""
    if special is None or general is None or special.row.relative is None or general.row.relative is None:
        return None
    value = special.row.relative.value + general.row.relative.value
    if any(one.change is None or one.before is None for one in (special, general)):
        return _Sum(value, None)
    return _Sum(value, _ratio(special) + _ratio(general))


def _ratio(part: _Change) -> Array:
    """The relative change over the resamples: infinite where the base scores 0 and the adapted model does not."""
    change, before = np.asarray(part.change), np.asarray(part.before)
    ratio = np.divide(change, before, out=np.zeros_like(change), where=before != 0)
    return np.where((before == 0) & (change != 0), np.inf, ratio)


def _absolute(special: _Change | None, general: _Change | None) -> _Sum | None:
    """Sum of the absolute changes; it also exists where a base scored 0."""
    if special is None or general is None or special.row.change is None or general.row.change is None:
        return None
    value = special.row.change.value + general.row.change.value
    drawn = None if special.change is None or general.change is None else special.change + general.change
    return _Sum(value, drawn)


def _behind(sums: Mapping[str, _Sum | None], confidence: float) -> dict[str, Estimate]:
    """Each configuration minus the one with the highest balance, which has no entry; draws are those of both."""
    known = {name: one for name, one in sums.items() if one is not None}
    found: dict[str, Estimate] = {}
    leader = max(known, key=lambda name: known[name].value, default=None)
    for name, one in known.items():
        if leader is None or name == leader:
            continue
        top = known[leader]
        with np.errstate(invalid="ignore"):  # two infinite ones: unknown, see _estimate
            drawn = None if one.drawn is None or top.drawn is None else one.drawn - top.drawn
        difference = _estimate(_Sum(one.value - top.value, drawn), confidence)
        if difference is not None:
            found[name] = difference
    return found


def _estimate(one: _Sum | None, confidence: float) -> Estimate | None:
    """With its percentile interval, which has no ends where an end would be infinite or unknown."""
    if one is None or one.drawn is None:
        return None if one is None else Estimate(one.value)
    if np.isfinite(one.drawn).all():
        low, high = (float(end[0]) for end in percentile_ends(one.drawn[None], confidence))
        return Estimate(one.value, low, high)
    tail = (1 - confidence) / 2
    # The nearest rank outwards: between a number and infinity there is nothing to interpolate. What is unknown counts
    # against the claim, on either side.
    low = float(np.quantile(np.where(np.isnan(one.drawn), -np.inf, one.drawn), tail, method="lower"))
    high = float(np.quantile(np.where(np.isnan(one.drawn), np.inf, one.drawn), 1 - tail, method="higher"))
    return Estimate(one.value, low, high) if np.isfinite(low) and np.isfinite(high) else Estimate(one.value)


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
    """Share of the resamples in which no other point is at least as good in all three and better in one.

    The base is one of the others: without it the smallest configuration would be on the front whatever it does.
    """
    shares: list[float | None] = [None] * len(points)
    known = [
        (number, point.gain, point.loss, point.parameters)
        for number, point in enumerate(points)
        if point.gain is not None and point.loss is not None and point.parameters is not None
    ]
    if not known:
        return shares
    numbers, gains, losses, sizes = zip(*known, strict=True)
    base = np.zeros_like(gains[0])
    all_gains, all_losses = np.stack([*gains, base]), np.stack([*losses, base])
    all_sizes = np.array([*sizes, 0.0])
    for place, number in enumerate(numbers):
        shares[number] = float(1 - np.any(_dominates(all_gains, all_losses, all_sizes, place), axis=0).mean())
    return shares


def _dominates(gains: Array, losses: Array, sizes: Array, place: int) -> NDArray[np.bool_]:
    """Whether each point is better than the one at ``place`` in each resample, shape (points, resamples)."""
    as_good = (gains >= gains[place]) & (losses >= losses[place]) & (sizes <= sizes[place])[:, None]
    better = (gains > gains[place]) | (losses > losses[place]) | (sizes < sizes[place])[:, None]
    found: NDArray[np.bool_] = as_good & better
    return found
