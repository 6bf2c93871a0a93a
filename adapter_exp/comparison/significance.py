"""Paired tests and intervals of differences between models, many at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from adapter_exp.comparison.decisions import finding, holm, items_needed, smallest_difference
from adapter_exp.comparison.intervals import Interval, differences, percentile_ends
from adapter_exp.comparison.model import Verdict
from adapter_exp.comparison.resampling import Aggregate, Array, Pairs, Scores, bootstrap, sign_flip_p
from adapter_exp.evaluation.statistics import ITEMS

MCNEMAR, SIGN_FLIP = "mcnemar", "sign_flip"
MAX_FLIPS = 50_000
_CHECKED_RESAMPLES = 64


@dataclass(frozen=True)
class Family:
    """All comparisons of one metric that Holm's correction counts together; arrays of shape (comparisons,).

    Attributes:
        change: first minus second.
        relative: ``change`` over the second; NaN where that is 0.
        error: standard error of ``change``.
        p, p_holm: NaN where no test could be made.
        tests: names of the tests used; None where none could be made.
        findings: before gates.
        smallest: the change that the first step of the corrected test finds with a probability of 80 %; NaN for none.
        items_needed: items with which that step would find a change as large as observed; NaN for none.
    """

    change: Interval
    relative: Interval
    error: Array
    p: Array
    p_holm: Array
    tests: tuple[str | None, ...]
    findings: tuple[Verdict, ...]
    smallest: float
    items_needed: Array


@dataclass(frozen=True)
class MetricTests:
    """One metric of several models: scores with intervals, resampled scores, and the comparisons."""

    scores: Interval
    resampled: Array
    families: tuple[Family, ...]


def compare_models(
    aggregate: Aggregate,
    scores: Scores,
    families: Sequence[Pairs],
    *,
    available: Mapping[str, NDArray[np.bool_]] | None = None,
    resamples: int = 10_000,
    alpha: float = 0.05,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, MetricTests]:
    """Compare models with each other on every metric of a task.

    Args:
        aggregate: the task's metrics from summed statistics, vectorised.
        scores: of all models, on the same items.
        families: comparisons (first, second model) that are corrected together, once for each metric: all
            configurations against their bases, all pairs of configurations.
        available: by metric, the models that have it, shape (models,); all models have a metric that is not named. A
            metric that ``aggregate`` does not compute is left out.
        resamples: draws of the bootstrap, and flips of the permutation test. So many flips are added, up to 50,000,
            that the largest family can be decided at all: p cannot be below 1 / (flips + 1).

    Returns:
        by metric; one ``Family`` for each of ``families``, in order. With one document only there are values but no
        intervals and no tests.
    """
    pairs = [pair for family in families for pair in family]
    values = scores.metrics(aggregate)
    if scores.documents == 1:
        drawn = {name: value[:, None] for name, value in values.items()}
        p = {name: np.full(len(pairs), math.nan) for name in values}
    else:
        drawn = bootstrap(aggregate, scores, resamples=resamples, seed=seed)
        flips = flips_for(max(map(len, families), default=0), resamples, alpha)
        p = _p_values(aggregate, scores, pairs, available or {}, flips=flips, seed=seed + 1)
    tests = _choose_tests(aggregate, scores, pairs, p, drawn, seed=seed)
    alone = scores.by_document(aggregate)
    made: dict[str, MetricTests] = {}
    for name, value in values.items():
        decided = _with_mcnemar(alone[name], pairs, tests[name], p[name])
        point = Interval(value, *percentile_ends(drawn[name], confidence))
        parts: list[Family] = []
        start = 0
        for family in families:
            part = slice(start, start + len(family))
            start += len(family)
            compared = _Compared(family, decided[part], tests[name][part])
            parts.append(_family(point, drawn[name], compared, scores, alpha=alpha, confidence=confidence))
        made[name] = MetricTests(point, drawn[name], tuple(parts))
    return made


def flips_for(comparisons: int, resamples: int, alpha: float) -> int:
    """Flips with which a family of so many comparisons can be decided."""
    return max(resamples, min(MAX_FLIPS, math.ceil(2 * comparisons / alpha)))


@dataclass(frozen=True)
class _Compared:
    """The comparisons of one family on one metric, with their p-values and tests."""

    pairs: Pairs
    p: Array
    tests: Sequence[str | None]


def _p_values(
    aggregate: Aggregate,
    scores: Scores,
    pairs: Pairs,
    available: Mapping[str, NDArray[np.bool_]],
    *,
    flips: int,
    seed: int,
) -> dict[str, Array]:
    """Permutation p-values by metric; NaN where one of the two models lacks the metric."""
    if not pairs:
        return dict.fromkeys(scores.metrics(aggregate), np.array([]))
    p = sign_flip_p(aggregate, scores, pairs, flips=flips, seed=seed)
    for name, models in available.items():
        if name not in p:  # named, but the task computes no such metric
            continue
        missing = [not (models[first] and models[second]) for first, second in pairs]
        p[name] = np.where(missing, math.nan, p[name])
    return p


def right_or_wrong(
    aggregate: Aggregate, scores: Scores, drawn: Mapping[str, Array], *, seed: int
) -> dict[str, NDArray[np.bool_]]:
    """Which metrics are, for which models, shares of items that are right: shape (models,), by metric.

    A model of one run whose documents are single items, each of which scores 0 or 1, and whose metric is the mean of
    these on all items and on every checked resample.
    """
    items = scores.sums[:, :, scores.keys.index(ITEMS)]
    possible = (items == 1).all(axis=1) & (np.array(scores.runs) == 1)
    if not possible.any():
        return dict.fromkeys(drawn, possible)
    alone = scores.by_document(aggregate)
    whole = scores.metrics(aggregate)
    generator = np.random.default_rng(seed)
    checked = min(_CHECKED_RESAMPLES, next(iter(drawn.values())).shape[-1])
    documents = scores.documents
    draws = generator.integers(0, documents, (checked, documents))  # the bootstrap's first draws, again
    found = {}
    for name, each in alone.items():
        means = np.stack([each[:, draw].mean(axis=-1) for draw in draws], axis=-1)
        fits = np.isclose(means, drawn[name][:, :checked], rtol=0, atol=1e-9).all(axis=-1)
        fits &= np.isclose(each.mean(axis=-1), whole[name], rtol=0, atol=1e-9)
        found[name] = possible & fits & np.isin(each, (0.0, 1.0)).all(axis=-1)
    return found


def _choose_tests(
    aggregate: Aggregate, scores: Scores, pairs: Pairs, p: Mapping[str, Array], drawn: Mapping[str, Array], *, seed: int
) -> dict[str, list[str | None]]:
    """By metric, which test decides each pair."""
    if scores.documents == 1:
        return {name: [None] * len(pairs) for name in p}
    exact = right_or_wrong(aggregate, scores, drawn, seed=seed)
    chosen: dict[str, list[str | None]] = {}
    for name, values in p.items():
        use = [MCNEMAR if exact[name][first] and exact[name][second] else SIGN_FLIP for first, second in pairs]
        chosen[name] = [test if math.isfinite(value) else None for test, value in zip(use, values, strict=True)]
    return chosen


def _with_mcnemar(alone: Array, pairs: Pairs, tests: Sequence[str | None], p: Array) -> Array:
    """``p`` with the pairs that McNemar's test decides replaced by its exact p-value.

    Args:
        alone: the metric on each item, shape (models, items).

    Source: McNemar 1947, by ``statsmodels.stats.contingency_tables.mcnemar``.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    decided = p.copy()
    for number, (first, second) in enumerate(pairs):
        if tests[number] == MCNEMAR:
            gained, lost = (int((left > right).sum()) for left, right in permutations((alone[first], alone[second])))
            # Items that both got right, or both wrong, play no part; with no others the test has nothing to say.
            table = [[0, gained], [lost, 0]]
            decided[number] = min(1.0, float(mcnemar(table, exact=True).pvalue)) if gained + lost else 1.0
    return decided


def _family(
    point: Interval, resampled: Array, compared: _Compared, scores: Scores, *, alpha: float, confidence: float
) -> Family:
    p = compared.p
    change, relative, error = differences(point.values, resampled, compared.pairs, confidence=confidence)
    corrected = holm(p)
    directions = zip(corrected, change.low, change.high, strict=True)
    steps = int(np.isfinite(p).sum())
    return Family(
        change=change,
        relative=relative,
        error=error,
        p=p,
        p_holm=corrected,
        tests=tuple(compared.tests),
        findings=tuple(finding(value, low, high, alpha) for value, low, high in directions),
        smallest=smallest_difference(error, steps, alpha),
        items_needed=items_needed(change.values, error, scores.items, steps, alpha),
    )
