"""Which experiment would tell most next, from what this comparison left open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from adapter_exp.comparison.model import Comparison, Group, MetricComparison, MetricRow, TaskComparison
from adapter_exp.report.axes import axis_of_kind, swept_axes
from adapter_exp.report.document import plain
from adapter_exp.report.numbers import change, compact, rounded_up, score, whole
from adapter_exp.report.texts import Texts

SEEDS_WANTED = 3
"""Fewer seeds give no spread worth the name."""


def next_steps(comparison: Comparison, group: Group, t: Texts) -> list[str]:
    """Sentences, the most urgent first; empty when nothing is open."""
    steps = [*_repair(group, t)]
    for task in group.tasks:
        if task.metrics and task.role == "special":
            steps += _ranges(group, task.metrics[0], t)
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
            key = f"gate.{gate.name}"
            name = t(key) if key in t.sentences else gate.name
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
    """A leader at the edge of what was swept; or an axis that made no difference."""
    if not metric.places:
        return
    first = [group.configuration(name) for name in metric.places[0]]
    leader = first[0]
    for swept in swept_axes(group):
        axis = axis_of_kind(group, swept.key, leader.kind)
        value = axis.position(leader)
        if value is None or len(axis.values) < 2:
            continue
        tied = {place for one in first if one.kind == leader.kind and (place := axis.position(one)) is not None}
        names = {"axis": plain(axis.key), "kind": plain(leader.kind), "tried": plain(", ".join(axis.labels))}
        if len(tied) == len(axis.values):
            yield t("next.flat_axis", **names)
        elif axis.numeric and value == axis.values[-1]:
            yield t("next.edge_high", value=_short(value), following=_short(_beyond(axis.values)), **names)
        elif axis.numeric and value == axis.values[0]:
            yield t("next.edge_low", value=_short(value), **names)


def _beyond(values: Sequence[float]) -> float:
    """The next value of a sweep that doubles, or steps evenly."""
    last, before = values[-1], values[-2]
    return last * last / before if before > 0 and last / before >= 1.5 else last + (last - before)


def _items(task: TaskComparison, metric: MetricComparison, t: Texts) -> Iterable[str]:
    """How many items would separate the two highest, and the highest from the base."""
    ranked = sorted((row for row in metric.rows if row.verdict != "withheld"), key=lambda row: -row.adapted.value)
    if not ranked:
        return
    leader = ranked[0]
    values = {"task": plain(task.name), "items": whole(task.items)}
    if leader.verdict == "tie" and leader.change is not None and leader.items_needed:
        difference, needed = change(leader.change.value), rounded_up(leader.items_needed)
        yield t("next.items_base", name=plain(leader.configuration), difference=difference, needed=needed, **values)
    second = _runner_up(metric, ranked)
    if second is not None:
        other, distance, wanted = second
        names = {"first": plain(leader.configuration), "second": plain(other)}
        yield t("next.items_pair", difference=score(distance), needed=rounded_up(wanted), **names, **values)


def _runner_up(metric: MetricComparison, ranked: list[MetricRow]) -> tuple[str, float, int] | None:
    """The second highest, its distance and the items needed, where the test left the two tied."""
    if len(ranked) < 2:
        return None
    names = {ranked[0].configuration, ranked[1].configuration}
    pair = next((one for one in metric.pairs if {one.first, one.second} == names), None)
    if pair is None or pair.verdict != "tie" or not pair.items_needed:
        return None
    return ranked[1].configuration, abs(pair.difference.value), pair.items_needed


def _seeds(group: Group, t: Texts) -> Iterable[str]:
    few = [one.name for one in group.configurations if len(one.seeds) < SEEDS_WANTED]
    if few:
        yield t("next.few_seeds", names=t.join(few), wanted=SEEDS_WANTED)
    for task in group.tasks:
        for metric in task.metrics[:1]:
            louder = [
                row.configuration
                for row in metric.rows
                if row.seed_sd is not None and row.change is not None and row.seed_sd > abs(row.change.value)
            ]
            if louder:
                yield t("next.seed_spread", task=plain(task.name), metric=plain(metric.name), names=t.join(louder))


def _short(value: float) -> str:
    return compact(int(value)) if value == int(value) else compact(value)
