"""What the runs of a group share, and differences that do not forbid to compare them but have to be told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from adapter_exp.comparison.groups import checkpoint_of
from adapter_exp.comparison.model import Configuration, Reason, Run, reason
from adapter_exp.comparison.scores import ADAPTED, BASE, quantization_of, recorded
from adapter_exp.comparison.significance import flips_for
from adapter_exp.comparison.task_comparison import Settings, TaskEvidence

FEW_DOCUMENTS = 30
"""Below so many, percentile intervals are too narrow (Efron & Tibshirani 1993, sec. 14.3, show it for 26 units)."""

_SAME_TOKENS = 0.01  # token counts within 1 % of each other are one budget
_BUDGET_KEYS = ("examples", "epochs", "steps", "tokens")


def group_facts(runs: Sequence[Run], configurations: Sequence[Configuration]) -> dict[str, Any]:
    """The facts of ``model.Group``."""
    first = runs[0].record
    data = _data(runs)
    versions: dict[str, list[str]] = {}
    for run in runs:
        for name, version in run.record["versions"].items():
            if version is not None and version not in versions.setdefault(name, []):
                versions[name].append(version)
    budgets = [_budget(one) for one in configurations]
    rates: dict[str, list[float]] = {}
    for one, budget in zip(configurations, budgets, strict=True):
        if budget["learning_rate"] is not None:
            rates[one.kind] = sorted({*rates.get(one.kind, []), budget["learning_rate"]})
    return {
        "model": first["model"].get("name"),
        "source": first["model"].get("source"),
        "revision": first["model"].get("revision"),
        "checkpoint_sha256": checkpoint_of(runs[0]),
        "data": {task: {split: found[0] for split, found in splits.items()} for task, splits in data.items()},
        "data_variants": {
            task: {split: found for split, found in splits.items() if len(found) > 1} for task, splits in data.items()
        },
        "quantizations": _all(runs, quantization_of),
        "compute_dtypes": _all(runs, lambda run: run.record["model"].get("compute_dtype")),
        "devices": _all(runs, lambda run: run.record["host"].get("device")),
        "seeds": sorted({int(run.record["seed"]) for one in configurations for run in one.runs}),
        "commits": _all(runs, lambda run: (run.record["git"] or {}).get("commit")),
        "versions": versions,
        "budgets": budgets,
        "learning_rates": rates,
        "imported": (first.get("imported") or {}).get("source"),
    }


def _data(runs: Sequence[Run]) -> dict[str, dict[str, list[Any]]]:
    """Statistics by task and split, one for each fingerprint, the first run's first."""
    found: dict[str, dict[str, dict[Any, Any]]] = {}
    for run in runs:
        for task, splits in run.record["data"].items():
            for split, statistics in splits.items():
                of_split = found.setdefault(task, {}).setdefault(split, {})
                of_split.setdefault(statistics.get("fingerprint"), statistics)
    return {task: {split: list(kept.values()) for split, kept in splits.items()} for task, splits in found.items()}


def warnings(
    facts: Mapping[str, Any],
    configurations: Sequence[Configuration],
    runs: Sequence[Run],
    tasks: Sequence[TaskEvidence],
    settings: Settings,
) -> tuple[Reason, ...]:
    """What a reader has to know before believing a difference.

    Codes: ``budget_differs`` (``key``, ``values`` by configuration), ``learning_rate_effort`` (``rates`` by kind),
    ``versions_differ`` (``library``, ``values``), ``commits_differ`` and ``devices_differ`` and ``dtypes_differ``
    (``values``), ``one_seed`` (``configurations``), ``seeds_differ`` (``seeds`` by configuration), ``base_differs``
    (``task``, ``quantization``, ``runs``), ``task_missing`` (``task``, ``configuration``), ``metric_missing`` and
    ``metric_not_finite`` (``task``, ``metric``, ``configuration``, ``seeds``), ``base_missing`` (``task``,
    ``configuration``, ``seeds``), ``metric_unknown`` (``task``, ``metric``), ``few_documents`` (``task``,
    ``documents``), ``coarse_p`` (``task``, ``comparisons``, ``flips``), ``base_only`` (no configuration).
    """
    found = [
        *_budget_warnings(facts),
        *_setting_warnings(facts),
        *_seed_warnings(configurations),
        *(reason for one in tasks for reason in _task_warnings(one, configurations, runs, settings)),
    ]
    if not configurations:
        found.append(reason("base_only", "only base models were scored; there is nothing to compare them with"))
    return tuple(found)


def _all(runs: Sequence[Run], read: Callable[[Run], Any]) -> list[Any]:
    return list(dict.fromkeys(value for run in runs if (value := read(run)) is not None))


def _budget(one: Configuration) -> dict[str, Any]:
    def middle(read: Callable[[Mapping[str, Any]], Any]) -> Any:
        known = [value for run in one.runs if (value := read(run.record)) is not None]
        return median(known) if known else None

    def examples(record: Mapping[str, Any]) -> Any:
        trained = (record["config"].get("task") or {}).get("name")
        return (record["data"].get(trained, {}).get("train") or {}).get("items")

    return {
        "configuration": one.name,
        "examples": middle(examples),
        "epochs": middle(lambda record: record["training"].get("epochs")),
        "steps": middle(lambda record: record["training"].get("steps")),
        "tokens": middle(lambda record: (record["training"].get("tokens") or {}).get("template")),
        "learning_rate": middle(lambda record: (record["config"].get("trainer") or {}).get("learning_rate")),
    }


def _budget_warnings(facts: Mapping[str, Any]) -> Iterator[Reason]:
    for key in _BUDGET_KEYS:
        values = {one["configuration"]: one[key] for one in facts["budgets"] if one[key] is not None}
        if values and max(values.values()) > (1 + _SAME_TOKENS * (key == "tokens")) * min(values.values()):
            low, high = min(values.values()), max(values.values())
            yield reason("budget_differs", f"{key} of training: from {low:g} to {high:g}", key=key, values=values)
    rates = facts["learning_rates"]
    if len({tuple(tried) for tried in rates.values()}) > 1:
        told = "; ".join(f"{kind}: {', '.join(f'{rate:g}' for rate in tried)}" for kind, tried in rates.items())
        yield reason("learning_rate_effort", f"kinds were not tried with the same learning rates ({told})", rates=rates)


def _setting_warnings(facts: Mapping[str, Any]) -> Iterator[Reason]:
    for library, values in facts["versions"].items():
        if len(values) > 1:
            text = f"runs used different versions of {library}: {', '.join(values)}"
            yield reason("versions_differ", text, library=library, values=values)
    for code, key, what in (
        ("commits_differ", "commits", "states of the program"),
        ("devices_differ", "devices", "devices"),
        ("dtypes_differ", "compute_dtypes", "number formats"),
    ):
        if len(facts[key]) > 1:
            yield reason(code, f"runs used different {what}: {', '.join(facts[key])}", values=facts[key])


def _seed_warnings(configurations: Sequence[Configuration]) -> Iterator[Reason]:
    seeds = {one.name: one.seeds for one in configurations}
    single = [name for name, values in seeds.items() if len(values) == 1]
    if single:
        text = f"one seed only, so the spread between seeds is unknown: {', '.join(single)}"
        yield reason("one_seed", text, configurations=single)
    if len(set(seeds.values())) > 1:
        told = "; ".join(f"{name}: {', '.join(map(str, values))}" for name, values in seeds.items())
        yield reason("seeds_differ", f"configurations do not have the same seeds ({told})", seeds=seeds)


def _task_warnings(
    evidence: TaskEvidence, configurations: Sequence[Configuration], runs: Sequence[Run], settings: Settings
) -> Iterator[Reason]:
    task, models = evidence.task, evidence.models
    scored = [
        one for one in configurations if all(task.name in run.record["evaluation"].get(ADAPTED, {}) for run in one.runs)
    ]
    for one in configurations:
        if one not in scored:
            text = f"{one.name} was not scored on {task.name} with every seed, so it is left out there"
            yield reason("task_missing", text, task=task.name, configuration=one.name)
    yield from _metric_warnings(evidence, scored)
    if models is None:
        return
    for quantization, count in models.unequal.items():
        total = sum(quantization_of(run) == quantization and (task.name, BASE) in run.predictions for run in runs)
        text = f"{task.name}: the base ({quantization}) answered differently in {count} of {total} runs; averaged"
        yield reason("base_differs", text, task=task.name, quantization=quantization, runs=count, total=total)
    if models.scores.documents < FEW_DOCUMENTS:
        text = f"{task.name}: {models.scores.documents} documents are few for an interval; take it as too narrow"
        yield reason("few_documents", text, task=task.name, documents=models.scores.documents)
    yield from _coarse(evidence, settings)


def _coarse(evidence: TaskEvidence, settings: Settings) -> Iterator[Reason]:
    """Where so many pairs are corrected together that no permutation test can be below alpha."""
    pairs = max((len(metric.pairs) for metric in evidence.task.metrics), default=0)
    flips = flips_for(pairs, settings.resamples, settings.alpha)
    if pairs / (flips + 1) > settings.alpha:
        name = evidence.task.name
        text = f"{name}: {pairs} pairs are too many for {flips} permutations to tell any apart; compare fewer runs"
        yield reason("coarse_p", text, task=name, comparisons=pairs, flips=flips)


def _metric_warnings(evidence: TaskEvidence, scored: Sequence[Configuration]) -> Iterator[Reason]:
    """What a task's tables lack: rows of a configuration, one metric of it, or the test of a metric."""
    task = evidence.task.name
    for one in scored:
        without = [int(run.record["seed"]) for run in one.runs if task not in run.record["evaluation"].get(BASE, {})]
        if without:  # told once, not once for each metric
            text = (
                f"{task}: {one.name} has no scores of the base (seeds {', '.join(map(str, without))}), so no rows there"
            )
            yield reason("base_missing", text, task=task, configuration=one.name, seeds=without)
            continue
        for metric in evidence.task.metrics:
            if one.name not in evidence.available[metric.name]:
                yield _metric_warning(task, metric.name, one)
    if evidence.models is None:
        return
    for metric in evidence.task.metrics:
        if metric.name not in evidence.tests:
            text = f"{task}: {metric.name} is not one of the task's metrics, so it has no interval and no test"
            yield reason("metric_unknown", text, task=task, metric=metric.name)


def _metric_warning(task: str, metric: str, one: Configuration) -> Reason:
    entries = {
        int(run.record["seed"]): [
            run.record["evaluation"].get(model, {}).get(task, {}).get(metric) for model in (BASE, ADAPTED)
        ]
        for run in one.runs
        if any(recorded(run, model, task, metric) is None for model in (BASE, ADAPTED))
    }
    missing = any(entry is None for both in entries.values() for entry in both)
    code = "metric_missing" if missing else "metric_not_finite"
    text = (
        f"{task}: {one.name} {'lacks' if missing else 'has no finite'} {metric} "
        f"(seeds {', '.join(map(str, entries))}), so it has no row there"
    )
    return reason(code, text, task=task, metric=metric, configuration=one.name, seeds=list(entries))
