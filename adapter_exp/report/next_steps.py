"""Which experiment would tell most next, from what this comparison left open."""

from __future__ import annotations

from collections.abc import Iterable

from adapter_exp.comparison.model import Comparison, Group, MetricComparison, MetricRow, TaskComparison
from adapter_exp.report.axes import axis_value, axis_values, swept_axes
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
    adapters: dict[tuple[str, str], dict[str, None]] = {}
    for gate in group.gates:
        if gate.withholds:
            task = gate.task or t("next.all_tasks")
            key = f"gate.{gate.name}"
            name = t(key) if key in t.sentences else gate.name
            if gate.model == "adapted":
                adapters.setdefault((task, name), {})[gate.configuration] = None
            else:
                evaluation.setdefault(task, {})[name] = None
    for task, names in evaluation.items():
        yield t("next.repair", task=plain(task), gates=t.join(list(names)))
    for (task, name), failing in adapters.items():
        yield t("next.failing", task=plain(task), gate=plain(name), names=t.join(list(failing)))


def _ranges(group: Group, metric: MetricComparison, t: Texts) -> Iterable[str]:
    """A leader at the edge of what was swept; or an axis that made no difference."""
    if not metric.places:
        return
    first = [group.configuration(name) for name in metric.places[0]]
    leader = first[0]
    for axis in swept_axes(group):
        values, value = axis_values(group, axis, leader.kind), axis_value(leader, axis)
        if value is None or len(values) < 2:
            continue
        tied = sorted(
            {found for one in first if one.kind == leader.kind and (found := axis_value(one, axis)) is not None}
        )
        names = {"axis": plain(axis), "kind": plain(leader.kind), "tried": ", ".join(map(_short, values))}
        if tied == values:
            yield t("next.flat_axis", **names)
        elif value == values[-1]:
            yield t("next.edge_high", value=_short(value), following=_short(_beyond(values)), **names)
        elif value == values[0]:
            yield t("next.edge_low", value=_short(value), **names)


def _beyond(values: list[float]) -> float:
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
