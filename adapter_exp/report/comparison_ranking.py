"""Section 4: places that configurations share, and the spread between seeds apart from the adapters' effect."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from adapter_exp.comparison.model import Group, MetricComparison, MetricRow, TaskComparison
from adapter_exp.report import plot_axes
from adapter_exp.report.axes import swept_axes
from adapter_exp.report.comparison_tasks import TONES, change_text
from adapter_exp.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table, file_name, plain
from adapter_exp.report.numbers import DASH, change, interval, score
from adapter_exp.report.texts import Texts


def ranking(group: Group, t: Texts, prefix: str) -> Section:
    """Places on each task's primary metric, the smallest difference that could be seen, seeds, sweep axes."""
    parts = [
        Section(
            t("ranking.task", task=plain(task.name), metric=plain(task.metrics[0].name)),
            tuple(_task(group, task, t, prefix)),
        )
        for task in group.tasks
        if task.metrics
    ]
    return Section(t("ranking.title"), (Paragraph(t("ranking.legend"), tone="muted"),), tuple(parts))


def place_names(metric: MetricComparison) -> dict[str, str]:
    """Place of each ranked configuration: ``1`` where it has it alone, ``1-3`` where three share it."""
    names: dict[str, str] = {}
    first = 1
    for members in metric.places:
        last = first + len(members) - 1
        names |= dict.fromkeys(members, str(first) if first == last else f"{first}–{last}")
        first = last + 1
    return names


def seeds_outweigh(row: MetricRow) -> bool:
    """Whether seeds differ more among themselves than the configuration does from the base."""
    return row.seed_sd is not None and row.change is not None and row.seed_sd > abs(row.change.value)


def _task(group: Group, task: TaskComparison, t: Texts, prefix: str) -> Iterable[Block]:
    metric = task.metrics[0]
    if metric.places:
        yield _places(metric, t)
    elif len(group.configurations) < 2:
        yield Paragraph(t("ranking.alone"))
    else:
        yield Paragraph(t("ranking.no_places"), tone="warn")
    if metric.unranked:
        yield Paragraph(t("ranking.unranked", names=t.join(metric.unranked, limit=30)), tone="warn")
    yield from _smallest(metric, t)
    yield from _seeds(group, metric, t)
    for axis in swept_axes(group):
        yield Figure(
            f"{prefix}axis_{file_name(task.name)}_{file_name(axis.key)}",
            t("plot.axis.title", task=plain(task.name), metric=plain(metric.name), axis=plain(axis.key)),
            partial(plot_axes.metric_against_axis, group, task, axis, t),
        )


def _places(metric: MetricComparison, t: Texts) -> Table:
    rows_by_name = {row.configuration: row for row in metric.rows}
    places = place_names(metric)
    rows = []
    ends = []
    for members in metric.places:
        for position, name in enumerate(members):
            row = rows_by_name[name]
            told = change_text(row)
            rows.append(
                (
                    Cell("" if position else places[name], strong=True),
                    Cell(plain(name), strong=True),
                    Cell(score(row.adapted.value), interval(row.adapted)),
                    Cell(told, tone=TONES.get(row.verdict)),
                )
            )
        if len(members) > 1:
            ends += [len(rows) - len(members) - 1, len(rows) - 1]
    columns = (
        Column(t("column.place"), "left", key=True),
        Column(t("column.configuration"), "left", key=True),
        Column(t("column.score")),
        Column(t("column.change")),
    )
    return Table(columns, tuple(rows), t("ranking.places"), ends=frozenset(ends))


def _smallest(metric: MetricComparison, t: Texts) -> Iterable[Block]:
    if metric.smallest_difference is not None:
        yield Paragraph(t("ranking.smallest_base", difference=score(metric.smallest_difference)))
    if metric.smallest_pair_difference is not None:
        yield Paragraph(t("ranking.smallest_pair", difference=score(metric.smallest_pair_difference)))


def _seeds(group: Group, metric: MetricComparison, t: Texts) -> Iterable[Block]:
    if not metric.rows:
        return
    if all(len(row.by_seed) < 2 for row in metric.rows):
        yield Paragraph(t("seeds.one"), tone="warn")
        return
    rows = []
    for row in metric.rows:
        seeds = group.configuration(row.configuration).seeds
        effect = row.change.value if row.change else None
        rows.append(
            (
                Cell(plain(row.configuration), strong=True),
                Cell(", ".join(map(str, seeds))),
                Cell(", ".join(score(value) for value in row.by_seed)),
                Cell(
                    score(row.seed_sd) if row.seed_sd is not None else DASH,
                    tone="warn" if seeds_outweigh(row) else None,
                ),
                Cell(change(effect)),
            )
        )
    columns = (
        Column(t("column.configuration"), "left", key=True),
        Column(t("column.seeds"), "left"),
        Column(t("column.by_seed")),
        Column(t("column.seed_sd")),
        Column(t("column.change")),
    )
    yield Table(columns, tuple(rows), t("seeds.title"), notes=(t("seeds.note"),))
