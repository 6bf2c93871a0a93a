"""One task over all configurations of a group: scores, changes, pairs, places."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from adapter_exp.comparison.gates import pair_verdict, verdict, withheld
from adapter_exp.comparison.intervals import Interval
from adapter_exp.comparison.model import (
    Configuration,
    Estimate,
    FailedGate,
    MetricComparison,
    MetricRow,
    PairRow,
    Run,
    TaskComparison,
    Verdict,
)
from adapter_exp.comparison.places import places
from adapter_exp.comparison.resampling import Array
from adapter_exp.comparison.scores import ADAPTED, BASE, TaskModels, quantization_of, recorded, task_models
from adapter_exp.comparison.significance import Family, MetricTests, compare_models
from adapter_exp.comparison.tasks import Statistics, task_of

Taken = Mapping[str, frozenset[Verdict]]


@dataclass(frozen=True)
class Settings:
    """Of the statistics; see ``compare_runs``."""

    resamples: int
    alpha: float
    confidence: float
    seed: int


@dataclass(frozen=True)
class TaskEvidence:
    """A task's comparison with what else is made from its resamples.

    Attributes:
        models: None for a task without predictions.
        tests: by metric.
        available: by metric, configurations that have it.
    """

    task: TaskComparison
    models: TaskModels | None
    tests: Mapping[str, MetricTests]
    available: Mapping[str, frozenset[str]]


def compare_task(
    name: str,
    runs: Sequence[Run],
    configurations: Sequence[Configuration],
    gates: Sequence[FailedGate],
    settings: Settings,
) -> TaskEvidence:
    """Compare all configurations that were scored on task ``name``.

    Args:
        runs: all runs of the group, those of the base alone included.
    """
    first = next(run for run in runs if name in run.record["evaluation"].get(BASE, {}) | _adapted(run))
    entry = first.record["tasks"].get(name, {"role": "special", "primary": None})
    scored = [one for one in configurations if all(name in _adapted(run) for run in one.runs)]
    metrics = _metric_names(name, entry["primary"], runs)
    available = {metric: frozenset(one.name for one in scored if _has(one, name, metric)) for metric in metrics}
    taken = {one.name: withheld(gates, one.name, name) for one in configurations}
    models = task_models(name, runs, scored)
    tests: Mapping[str, MetricTests] = {}
    by_run: Mapping[str, Mapping[str, Array]] = {}
    if models is not None:
        aggregate = task_of(first.record, name).aggregate
        compared = list(models.adapted)
        tests = compare_models(
            aggregate,
            models.scores,
            [
                [(models.adapted[one], models.own_base[one]) for one in compared],
                [(models.adapted[one], models.adapted[other]) for one, other in combinations(compared, 2)],
            ],
            available={metric: _mask(models, have) for metric, have in available.items()},
            resamples=settings.resamples,
            alpha=settings.alpha,
            confidence=settings.confidence,
            # Streams of their own: equal draws would tie unrelated items of two tasks together.
            seed=settings.seed + zlib.crc32(name.encode()),
        )
        keys = models.scores.keys
        by_run = {one: aggregate(Statistics(zip(keys, sums.T, strict=True))) for one, sums in models.by_run.items()}
    builder = _Builder(name, runs, scored, models, tests, available, taken, by_run)
    comparison = TaskComparison(
        name=name,
        role=entry["role"],
        primary=metrics[0],
        items=models.scores.items if models else None,
        documents=models.scores.documents if models else None,
        metrics=tuple(builder.metric(metric) for metric in metrics),
    )
    return TaskEvidence(comparison, models, tests, available)


def _adapted(run: Run) -> Mapping[str, object]:
    found: Mapping[str, object] = run.record["evaluation"].get(ADAPTED, {})
    return found


def _has(one: Configuration, task: str, metric: str) -> bool:
    """Whether every run of a configuration has the metric, before and after."""
    return all(recorded(run, model, task, metric) is not None for run in one.runs for model in (BASE, ADAPTED))


def _metric_names(task: str, primary: str | None, runs: Sequence[Run]) -> list[str]:
    """Metrics that some run has, the primary one first."""
    found = dict.fromkeys(
        metric
        for run in runs
        for model in (BASE, ADAPTED)
        for metric in run.record["evaluation"].get(model, {}).get(task, {})
    )
    return sorted(found, key=lambda metric: metric != primary)


def _mask(models: TaskModels, have: frozenset[str]) -> NDArray[np.bool_]:
    mask = np.ones(len(models.scores.sums), dtype=np.bool_)
    for one, number in models.adapted.items():
        mask[number] = one in have
    return mask


@dataclass(frozen=True)
class _Builder:
    """Turns arrays, or plain figures where there are none, into the rows of one task."""

    name: str
    runs: Sequence[Run]
    configurations: Sequence[Configuration]
    models: TaskModels | None
    tests: Mapping[str, MetricTests]
    available: Mapping[str, frozenset[str]]
    taken: Taken
    by_run: Mapping[str, Mapping[str, Array]]

    def metric(self, metric: str) -> MetricComparison:
        """All rows of one metric."""
        members = [one for one in self.configurations if one.name in self.available[metric]]
        tested = self.tests.get(metric)
        rows = tuple(self._row(one, metric, tested) for one in members)
        pairs = tuple(self._pairs(metric, tested))
        ranked, unranked = places(rows, pairs, self.taken)
        against_base, between = tested.families if tested else (None, None)
        return MetricComparison(
            name=metric,
            base=self._bases(metric, tested),
            trivial=self._trivial(metric),
            rows=rows,
            pairs=pairs,
            places=ranked,
            smallest_difference=_known(against_base.smallest) if against_base else None,
            smallest_pair_difference=_known(between.smallest) if between else None,
            unranked=unranked,
        )

    def _bases(self, metric: str, tested: MetricTests | None) -> dict[str, Estimate]:
        found: dict[str, Estimate] = {}
        for quantization in dict.fromkeys(map(quantization_of, self.runs)):
            own = [run for run in self.runs if quantization_of(run) == quantization]
            values = [value for run in own if (value := recorded(run, BASE, self.name, metric)) is not None]
            if tested and self.models and quantization in self.models.bases and values:
                found[quantization] = _estimate(tested.scores, self.models.bases[quantization])
            elif values:
                found[quantization] = Estimate(fmean(values))
        return found

    def _trivial(self, metric: str) -> float | None:
        values = (recorded(run, "baseline", self.name, metric) for run in self.runs)
        return next((value for value in values if value is not None), None)

    def _row(self, one: Configuration, metric: str, tested: MetricTests | None) -> MetricRow:
        if tested is None or self.models is None or one.name not in self.models.adapted:
            return self._figures(one, metric)
        models, family = self.models, tested.families[0]
        number = list(models.adapted).index(one.name)
        seeds = tuple(float(value) for value in self.by_run[one.name][metric])
        return MetricRow(
            configuration=one.name,
            base=_estimate(tested.scores, models.own_base[one.name]),
            adapted=_estimate(tested.scores, models.adapted[one.name]),
            change=_estimate(family.change, number),
            relative=_relative(family, number),
            p=_known(family.p[number]),
            p_holm=_known(family.p_holm[number]),
            test=family.tests[number],
            verdict=verdict(family.findings[number], self.taken[one.name]),
            by_seed=seeds,
            seed_sd=stdev(seeds) if len(seeds) > 1 else None,
            finding=family.findings[number],
            standard_error=_known(family.error[number]),
            items_needed=_count(family.items_needed[number]),
        )

    def _figures(self, one: Configuration, metric: str) -> MetricRow:
        """A row of figures alone: no interval and no test."""
        before = fmean(recorded(run, BASE, self.name, metric) or 0.0 for run in one.runs)
        seeds = tuple(recorded(run, ADAPTED, self.name, metric) or 0.0 for run in one.runs)
        after = fmean(seeds)
        return MetricRow(
            configuration=one.name,
            base=Estimate(before),
            adapted=Estimate(after),
            change=Estimate(after - before),
            relative=Estimate((after - before) / before) if before else None,
            p=None,
            p_holm=None,
            test=None,
            verdict=verdict("not_measured", self.taken[one.name]),
            by_seed=seeds,
            seed_sd=stdev(seeds) if len(seeds) > 1 else None,
        )

    def _pairs(self, metric: str, tested: MetricTests | None) -> list[PairRow]:
        have = self.available[metric]
        numbers = {} if tested is None or self.models is None else self.models.adapted
        made = {}
        for number, names in enumerate(combinations(numbers, 2)):
            if tested is not None and have.issuperset(names):
                made[names] = self._pair(*names, tested.families[1], number)
        order = [one.name for one in self.configurations if one.name in have]
        return [made.get(names) or self._pair_of_figures(*names, metric) for names in combinations(order, 2)]

    def _pair(self, first: str, second: str, family: Family, number: int) -> PairRow:
        found = family.findings[number]
        return PairRow(
            first=first,
            second=second,
            difference=_estimate(family.change, number),
            relative=_relative(family, number),
            p=_known(family.p[number]),
            p_holm=_known(family.p_holm[number]),
            test=family.tests[number],
            verdict=pair_verdict(found, self.taken[first], self.taken[second]),
            finding=found,
            standard_error=_known(family.error[number]),
            items_needed=_count(family.items_needed[number]),
        )

    def _pair_of_figures(self, first: str, second: str, metric: str) -> PairRow:
        runs = {one.name: one.runs for one in self.configurations}
        left, right = (
            fmean(recorded(run, ADAPTED, self.name, metric) or 0.0 for run in runs[name]) for name in (first, second)
        )
        return PairRow(
            first=first,
            second=second,
            difference=Estimate(left - right),
            relative=Estimate((left - right) / right) if right else None,
            p=None,
            p_holm=None,
            test=None,
            verdict=pair_verdict("not_measured", self.taken[first], self.taken[second]),
        )


def _relative(family: Family, number: int) -> Estimate | None:
    return None if math.isnan(family.relative.values[number]) else _estimate(family.relative, number)


def _estimate(interval: Interval, number: int) -> Estimate:
    return Estimate(float(interval.values[number]), _known(interval.low[number]), _known(interval.high[number]))


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _count(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None
