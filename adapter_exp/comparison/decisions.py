"""From p-values to findings: the correction for many tests, what counts as a difference, and what could be seen."""

from __future__ import annotations

import math

import numpy as np

from adapter_exp.comparison.model import Verdict
from adapter_exp.comparison.resampling import Array

POWER = 0.8


def holm(p: Array) -> Array:
    """p-values after Holm's correction over those that are not NaN.

    The result is that of ``statsmodels.stats.multitest.multipletests``, which runs the garbage collector on each call:
    0.1 to 0.3 s beside a loaded model, once for every metric.

    Source: Holm 1979.
    """
    corrected = np.full(len(p), math.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps * p[order]))
    return corrected


def finding(p_holm: float, low: float, high: float, alpha: float = 0.05) -> Verdict:
    """What a corrected test and the interval of the change show together.

    A direction is claimed only where both agree: the test is at most ``alpha`` and the interval lies on one side of 0.
    The interval alone is that of a single comparison; among many it may exclude 0 by chance, and that is a tie.
    """
    if not math.isfinite(p_holm):
        return "not_measured"
    if p_holm > alpha:
        return "tie"
    return "higher" if low > 0 else "lower" if high < 0 else "tie"


def smallest_difference(errors: Array, comparisons: int, alpha: float = 0.05) -> float:
    """The true change that the first step of Holm's test over ``comparisons`` finds with a probability of 80 %.

    From the median of the standard errors above 0; NaN where there is none.

    Source: Cohen 1988, ch. 2, with the normal approximation and alpha / comparisons, two-sided.
    """
    known = errors[np.isfinite(errors) & (errors > 0)]
    if not len(known) or not comparisons:
        return math.nan
    return _factor(comparisons, alpha) * float(np.median(known))


def items_needed(change: Array, errors: Array, items: int, comparisons: int, alpha: float = 0.05) -> Array:
    """Items for a power of 80 % at the observed ``change``: a standard error falls with the root of their number."""
    needed = np.full(len(change), math.nan)
    known = np.isfinite(errors) & (errors > 0) & (change != 0)
    if known.any() and comparisons:
        needed[known] = np.ceil(items * (_factor(comparisons, alpha) * errors[known] / change[known]) ** 2)
    return needed


def _factor(comparisons: int, alpha: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(1 - alpha / (2 * comparisons)) + norm.ppf(POWER))
