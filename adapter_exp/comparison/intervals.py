"""Percentile intervals of scores, differences and relative differences over shared resamples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from adapter_exp.comparison.resampling import Array, Pairs

_CELLS = 2**22  # numbers in one array of differences: 32 MiB


@dataclass(frozen=True)
class Interval:
    """Values with percentile intervals, shape (...); ends are NaN where there is none."""

    values: Array
    low: Array
    high: Array


def percentile_ends(resampled: Array, confidence: float) -> tuple[Array, Array]:
    """Ends of the percentile interval along the last axis; NaN where there is one resample only.

    Source: Efron & Tibshirani 1993, ch. 13.
    """
    if resampled.shape[-1] == 1 or not len(resampled):
        nothing = np.full(len(resampled), math.nan)
        return nothing, nothing
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=-1)
    return low, high


def differences(
    values: Array, resampled: Array, pairs: Pairs, *, confidence: float
) -> tuple[Interval, Interval, Array]:
    """First minus second of each pair: absolute, as a share of the second, and the standard error of the absolute.

    Args:
        values: on the items themselves, shape (models,).
        resampled: shape (models, resamples).
        pairs: model numbers.
    """
    first, second = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    before = values[second]
    change = values[first] - before
    relative = np.divide(change, before, out=np.full(len(pairs), math.nan), where=before != 0)
    low, high, relative_low, relative_high, error = (np.full(len(pairs), math.nan) for _ in range(5))
    step = max(1, _CELLS // resampled.shape[-1])
    for start in range(0, len(pairs), step):
        part = slice(start, start + step)
        base = resampled[second[part]]
        drawn = resampled[first[part]] - base
        low[part], high[part] = percentile_ends(drawn, confidence)
        relative_low[part], relative_high[part] = relative_ends(drawn, base, before[part], confidence)
        if drawn.shape[-1] > 1:
            error[part] = drawn.std(axis=-1, ddof=1)
    return Interval(change, low, high), Interval(relative, relative_low, relative_high), error


def relative_ends(differences: Array, before: Array, observed: Array, confidence: float) -> tuple[Array, Array]:
    """Percentile interval of ``differences / before``, shapes (comparisons, resamples); NaN where it has no end.

    A resample in which the base scores 0 counts as infinitely higher (or as unchanged); where so many are infinite that
    an end of the interval is, there is no interval.

    Args:
        observed: the base's score on the items themselves, shape (comparisons,): no interval where it is 0.
    """
    if differences.shape[-1] == 1 or not len(differences):
        nothing = np.full(len(differences), math.nan)
        return nothing, nothing
    empty = before == 0
    ratios = np.divide(differences, before, out=np.zeros_like(differences), where=~empty)
    ratios[empty & (differences != 0)] = math.inf
    tail = (1 - confidence) / 2
    # The nearest rank outwards: between a number and infinity there is nothing to interpolate.
    low = np.quantile(ratios, tail, axis=-1, method="lower")
    high = np.quantile(ratios, 1 - tail, axis=-1, method="higher")
    bad = ~np.isfinite(low) | ~np.isfinite(high) | (observed == 0)
    return np.where(bad, math.nan, low), np.where(bad, math.nan, high)
