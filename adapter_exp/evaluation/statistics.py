"""Bootstrap intervals of metrics and of paired changes; what is resampled is the group (document, premise)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapter_exp.tasks.protocol import Metrics, Sums

Aggregate = Callable[[Sums], Metrics]
Rows = Sequence[Mapping[str, float]]
Array = NDArray[np.float64]

_BATCH_NUMBERS = 2**22  # resamples x groups drawn at once: 32 MiB an array
ITEMS = "items"


class PairingError(ValueError):
    """Two evaluations are not of the same items in the same order."""


@dataclass(frozen=True)
class Interval:
    """A metric and its confidence interval.

    Attributes:
        value: the metric on the items themselves, finite.
        low, high: ends of the interval; None when it cannot be had because all items are of one group. ``value`` lies
            between them as a rule, not always: a percentile interval is that of the resamples.
    """

    value: float
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """``{value, low, high}`` as records hold it."""
        return {"value": self.value, "low": self.low, "high": self.high}


def metric_intervals(
    aggregate: Aggregate,
    rows: Rows,
    groups: Sequence[str],
    *,
    resamples: int,
    seed: int,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Each metric with its percentile bootstrap interval over whole groups.

    Args:
        aggregate: the task's metrics from summed statistics, vectorised.
        rows: per-item statistics, one mapping an item, all with the same keys.
        groups: the group of each item. The order of the items does not matter.
        resamples: bootstrap draws.

    Raises:
        ValueError: without items, or when a metric is not finite.

    Source: Efron & Tibshirani 1993, ch. 13; resampling clusters: Davison & Hinkley 1997, sec. 3.8.
    """
    keys = _keys(rows)
    sums = _group_sums(rows, groups, keys)

    def metrics_of(weights: Array) -> Metrics:
        return aggregate(_named(weights @ sums, keys))

    return _intervals(metrics_of, len(sums), resamples=resamples, seed=seed, confidence=confidence)


def paired_change(
    aggregate: Aggregate,
    base: Rows,
    adapted: Rows,
    *,
    base_hashes: Sequence[str],
    adapted_hashes: Sequence[str],
    groups: Sequence[str],
    resamples: int,
    seed: int,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Change of each metric, adapted minus base: both are computed on the same resampled groups.

    Args:
        base, adapted: per-item statistics of the two models on the same items in the same order.
        base_hashes, adapted_hashes: item hashes, which must be equal.
        groups: the group of each item.

    Raises:
        PairingError: if the items differ; the message names the first that does.
        ValueError: without items, or when a metric is not finite.

    Source: Efron & Tibshirani 1993, ch. 13 (percentile interval on paired differences).
    """
    _check_pairs(base_hashes, adapted_hashes)
    keys = _keys(base)
    before, after = _group_sums(base, groups, keys), _group_sums(adapted, groups, keys)

    def change_of(weights: Array) -> Metrics:
        low, high = aggregate(_named(weights @ before, keys)), aggregate(_named(weights @ after, keys))
        return {name: np.asarray(high[name]) - np.asarray(low[name]) for name in low}

    return _intervals(change_of, len(before), resamples=resamples, seed=seed, confidence=confidence)


def _intervals(
    metrics_of: Callable[[Array], Metrics], groups: int, *, resamples: int, seed: int, confidence: float
) -> dict[str, Interval]:
    """Point values and intervals of metrics given as a function of group weights ``(..., groups)``."""
    values = {name: float(value) for name, value in metrics_of(np.ones(groups)).items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"metric {name} is {value}: its statistics are not finite or its denominator is zero")
    if groups == 1:
        return {name: Interval(value, None, None) for name, value in values.items()}

    from scipy.stats import bootstrap

    def statistic(drawn: NDArray[Any], axis: int) -> Array:
        """(resamples, groups) drawn group numbers -> (metrics, resamples)."""
        metrics = metrics_of(_counts(np.moveaxis(drawn, axis, -1).astype(np.intp), groups))
        return np.stack([metrics[name] for name in values])

    result: Any = bootstrap(
        (np.arange(groups),),
        statistic,
        n_resamples=resamples,
        batch=max(1, _BATCH_NUMBERS // groups),
        vectorized=True,
        axis=-1,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    lows, highs = result.confidence_interval
    bounds = np.stack([lows, highs])
    if not np.isfinite(bounds).all():
        raise ValueError(f"a metric of {sorted(values)} is not finite on a resample: 0 for an empty denominator?")
    ends = zip(values.items(), bounds.T.tolist(), strict=True)
    return {name: Interval(value, low, high) for (name, value), (low, high) in ends}


def _counts(drawn: NDArray[np.intp], groups: int) -> Array:
    """How often each group was drawn: (..., groups) group numbers -> (..., groups) counts."""
    flat = drawn.reshape(-1, groups)
    cells = flat + groups * np.arange(len(flat))[:, None]
    return np.bincount(cells.ravel(), minlength=flat.size).reshape(drawn.shape).astype(np.float64)


def _keys(rows: Rows) -> list[str]:
    if not rows:
        raise ValueError("there are no items to compute metrics from")
    return sorted(rows[0])


def _named(sums: Array, keys: Sequence[str]) -> Sums:
    """(..., keys + 1) -> one array (...) per statistic, ``items`` last."""
    return {key: sums[..., column] for column, key in enumerate([*keys, ITEMS])}


def _group_sums(rows: Rows, groups: Sequence[str], keys: Sequence[str]) -> Array:
    """Statistics summed within each group, groups in sorted order, and the group's items: (groups, keys + 1)."""
    members: dict[str, list[Mapping[str, float]]] = {}
    for row, group in zip(rows, groups, strict=True):
        if row.keys() != set(keys):
            raise ValueError(f"an item has the statistics {sorted(row)}, the first item has {list(keys)}")
        members.setdefault(group, []).append(row)
    # fsum rounds once, so the order of the items cannot show in the last digit.
    return np.array(
        [[*(math.fsum(row[key] for row in members[g]) for key in keys), len(members[g])] for g in sorted(members)],
        dtype=np.float64,
    )


def _check_pairs(base: Sequence[str], adapted: Sequence[str]) -> None:
    for number, (left, right) in enumerate(zip(base, adapted, strict=False)):
        if left != right:
            raise PairingError(f"item {number} differs: base has {left}, adapted has {right}")
    if len(base) != len(adapted):
        longer, item = ("base", base) if len(base) > len(adapted) else ("adapted", adapted)
        first = min(len(base), len(adapted))
        raise PairingError(f"item {first} ({item[first]}) is only in {longer}: {len(base)} and {len(adapted)} items")
