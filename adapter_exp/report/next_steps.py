"""Which experiment would tell most next, from what this comparison left open."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapter_exp.comparison.model import Comparison, Configuration, Group, MetricComparison, TaskComparison
from adapter_exp.report.axes import Axis, axis_of_kind, swept_axes
from adapter_exp.report.comparison_ranking import seeds_outweigh
from adapter_exp.report.document import plain
from adapter_exp.report.numbers import change, compact, rounded_up, score, whole
from adapter_exp.report.texts import Texts
from adapter_exp.report.withheld import gate_name

SEEDS_WANTED = 3
"""Fewer seeds give no spread worth the name."""

MOST_TIMES = 20
"""A difference that asks for so many times the items at hand is told as too small: its own size is noise."""


def next_steps(comparison: Comparison, group: Group, t: Texts) -> list[str]:
    """Sentences, the most urgent first; empty when nothing is open."""
    steps = [*_repair(group, t)]
    for task in group.tasks:
        if task.metrics and task.role == "special":
            steps += _ranges(group, task.metrics[0], t)
    steps += _single_settings(group, t)
    for task in group.tasks:
        if task.metrics and task.items is not None:
            steps += _items(task, task.metrics[0], t)
    steps += _seeds(group, t)
    if len(group.configurations) == 1:
        steps.append(t("next.sweep"))
    if comparison.refused:
        steps.append(t("next.refused", number=len(comparison.refused)))
    return steps


def _repair(group: Group, t: Texts) -> Iterable[str]:
    """What gates withhold comes first: an evaluation that no further run would mend, then single configurations."""
    evaluation: dict[str, dict[str, None]] = {}
    adapters: dict[str, dict[str, dict[str, None]]] = {}
    for gate in group.gates:
        if gate.withholds:
            task = gate.task or t("next.all_tasks")
            name = gate_name(gate.name, t)
            if gate.model == "adapted":
                adapters.setdefault(task, {}).setdefault(gate.configuration, {})[name] = None
            else:
                evaluation.setdefault(task, {})[name] = None
    for task, names in evaluation.items():
        yield t("next.repair", task=plain(task), gates=t.join(list(names)))
    for task, failing in adapters.items():
        gates = {name: None for found in failing.values() for name in found}
        yield t("next.failing", task=plain(task), gates=t.join(list(gates)), names=t.join(list(failing)))


def _ranges(group: Group, metric: MetricComparison, t: Texts) -> Iterable[str]:
    """For each kind in the first place: its highest is at the edge of what was swept, or an axis was tried in vain."""
    best: dict[str, Configuration] = {}
    for name in metric.places[0] if metric.places else ():
        one = group.configuration(name)
        best.setdefault(one.kind, one)
    for kind, leader in best.items():
        for swept in swept_axes(group):
            axis = axis_of_kind(group, swept.key, kind)
            value = axis.position(leader)
            if value is None or len(axis.values) < 2:
                continue
            names = {"axis": plain(axis.key), "kind": plain(kind), "tried": plain(", ".join(axis.labels))}
            if _in_vain(group, metric, axis, kind):
                if metric.smallest_pair_difference is not None:
                    yield t("next.flat_axis", smallest=score(metric.smallest_pair_difference), **names)
            elif axis.numeric and value == axis.values[-1]:
                yield t("next.edge_high", following=_short(_beyond(axis.values)), **names)
            elif axis.numeric and value == axis.values[0] and _has_less(axis):
                yield t("next.edge_low", value=_short(value), **names)


def _single_settings(group: Group, t: Texts) -> Iterable[str]:
    """Kinds are compared, and some had no choice of size or learning rate: the settings are compared as much."""
    names: dict[str, list[str]] = {}
    for one in group.configurations:
        names.setdefault(one.kind, []).append(one.name)
    single = [found[0] for found in names.values() if len(found) == 1]
    if len(names) > 1 and single:
        yield t("next.single_setting", names=t.join(single))


def _in_vain(group: Group, metric: MetricComparison, axis: Axis, kind: str) -> bool:
    """Whether the test found nothing between any two configurations that differ in this axis alone."""
    members = {one.name: one for one in group.configurations if one.kind == kind}
    seen: set[float] = set()
    for pair in metric.pairs:
        if pair.first in members and pair.second in members:
            first, second = members[pair.first], members[pair.second]
            if _without(first.axes, axis.key) == _without(second.axes, axis.key):
                if pair.verdict != "tie":
                    return False
                seen |= {place for one in (first, second) if (place := axis.position(one)) is not None}
    return len(seen) == len(axis.values)


def _without(axes: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in axes.items() if name != key}


def _has_less(axis: Axis) -> bool:
    """Whether there is a value below the lowest: none below 0, and no size below 1."""
    whole_numbers = all(isinstance(value, int) for value in axis.values)
    return bool(axis.values[0] > (1 if whole_numbers else 0))


def _beyond(values: Sequence[float]) -> float:
    """The next value of a sweep that doubles, or steps evenly."""
    last, before = values[-1], values[-2]
    return last * last / before if before > 0 and last / before >= 1.5 else last + (last - before)


def _items(task: TaskComparison, metric: MetricComparison, t: Texts) -> Iterable[str]:
    """How many items would separate the two highest of the first place, and the highest from the base."""
    rows = {row.configuration: row for row in metric.rows}
    ranked = [rows[name] for name in (metric.places[0] if metric.places else ()) if name in rows]
    if not ranked or task.items is None:
        return
    leader = ranked[0]
    if leader.verdict == "tie" and leader.change is not None and leader.items_needed:
        told = {"name": plain(leader.configuration), "difference": change(leader.change.value)}
        yield _needed("next.items_base", task, leader.items_needed, t, **told)
    if len(ranked) > 1:
        names = {leader.configuration, ranked[1].configuration}
        pair = next((one for one in metric.pairs if {one.first, one.second} == names), None)
        if pair is not None and pair.verdict == "tie" and pair.items_needed:
            told = {"first": plain(leader.configuration), "second": plain(ranked[1].configuration)}
            difference = score(abs(pair.difference.value))
            yield _needed("next.items_pair", task, pair.items_needed, t, difference=difference, **told)


def _needed(key: str, task: TaskComparison, needed: int, t: Texts, **told: str) -> str:
    """The number of items; or, where it is out of reach, that the difference is too small for such a set."""
    items = task.items or 0
    if needed > MOST_TIMES * items:
        return t(f"{key}_too_many", task=plain(task.name), times=MOST_TIMES, **told)
    now = whole(items)
    if task.documents is not None and task.documents < items:
        now = t("next.items_now", items=now, documents=whole(task.documents))
    return t(key, task=plain(task.name), needed=rounded_up(needed), items=now, **told)


def _seeds(group: Group, t: Texts) -> Iterable[str]:
    few = [one.name for one in group.configurations if len(one.seeds) < SEEDS_WANTED]
    if few:
        yield t("next.few_seeds", names=t.join(few), wanted=SEEDS_WANTED)
    for task in group.tasks:
        for metric in task.metrics[:1]:
            louder = [row.configuration for row in metric.rows if seeds_outweigh(row)]
            if louder:
                yield t("next.seed_spread", task=plain(task.name), metric=plain(metric.name), names=t.join(louder))


def _short(value: float) -> str:
    return compact(int(value)) if value == int(value) else compact(value)
