"""Section 3: every metric of every task, base against each adapter and adapters among themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from adapter_exp.comparison.model import (
    Estimate,
    Group,
    MetricComparison,
    MetricRow,
    PairRow,
    TaskComparison,
    Verdict,
)
from adapter_exp.report import plot_changes
from adapter_exp.report.comparison_setup import quantization_name
from adapter_exp.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table, Tone, file_name, plain
from adapter_exp.report.numbers import DASH, SPACE, change_with_relative, interval, p_value, score, whole
from adapter_exp.report.texts import Texts

FEW = 4
"""Up to so many configurations every metric and every pair is told in full; beyond, the primary metric is."""

TONES: dict[Verdict, Tone] = {"higher": "good", "lower": "bad", "withheld": "warn", "tie": "muted"}
MARKS: dict[Verdict, str] = {"higher": "▲", "lower": "▼", "withheld": "?", "tie": "", "not_measured": ""}
MIRROR: dict[Verdict, Verdict] = {"higher": "lower", "lower": "higher"}
INDENT = 2 * SPACE


def results(group: Group, t: Texts, prefix: str) -> Section:
    """One part per task: the primary metric, the other metrics, the adapters among themselves, the plot."""
    return Section(
        t("results.title"),
        (Paragraph(t("results.legend"), tone="muted"),),
        tuple(Section(_task_title(task, t), tuple(_task(group, task, t, prefix))) for task in group.tasks),
    )


def _task_title(task: TaskComparison, t: Texts) -> str:
    return t("results.task", task=plain(task.name), role=t(f"role.{task.role}"))


def _task(group: Group, task: TaskComparison, t: Texts, prefix: str) -> Iterable[Block]:
    if task.items is None:
        yield Paragraph(t("results.imported"), tone="warn")
    else:
        counts = t("results.items", items=t.count("item", task.items), documents=whole(task.documents))
        yield Paragraph(counts, tone="muted")
    if not task.metrics:
        yield Paragraph(t("results.no_metrics"), tone="warn")
        return
    primary, *others = task.metrics
    yield from _missing(group, task, t)
    yield _full(primary, t)
    yield Figure(
        f"{prefix}change_{file_name(task.name)}",
        t("plot.change.title", task=plain(task.name), metric=plain(primary.name)),
        partial(plot_changes.change_by_configuration, group, task, t),
    )
    if others and len(group.configurations) <= FEW:
        yield _others(others, t)
    elif others:
        yield from _compact(group, others, t)
    yield from _between(group, task, t)


def _missing(group: Group, task: TaskComparison, t: Texts) -> Iterable[Block]:
    """What only some runs have is told, so that a shorter table is no silent loss; once for all such metrics."""
    names = [one.name for one in group.configurations]
    metrics: dict[tuple[str, ...], list[str]] = {}
    for metric in task.metrics:
        absent = tuple(name for name in names if name not in {row.configuration for row in metric.rows})
        metrics.setdefault(absent, []).append(metric.name)
    for absent, missing in metrics.items():
        if absent:
            every = len(missing) == len(task.metrics)
            told = t("results.every_metric") if every else t.join(missing)
            text = t("results.missing", metric=told, names=t.join(absent), number=len(absent))
            yield Paragraph(text, tone="warn")


def _full(metric: MetricComparison, t: Texts) -> Table:
    """Rows: the base, then each configuration; with the finding in words."""
    rows = [*((*row, Cell("")) for row in _reference_rows(metric, t))]
    rows += [(*_row(row, t), finding_cell(row.verdict, t)) for row in metric.rows]
    columns = (
        Column(t("column.configuration"), "left", key=True),
        *(Column(t(f"column.{key}")) for key in ("score", "change", "p_holm")),
        Column(t("column.finding"), "left"),
    )
    return Table(columns, tuple(rows), t("results.primary", metric=plain(metric.name)))


def _others(metrics: Sequence[MetricComparison], t: Texts) -> Table:
    """The same for several metrics; the marks tell the findings."""
    rows: list[tuple[Cell, ...]] = []
    ends = []
    for metric in metrics:
        rows.append(_heading(metric.name, 4))
        rows += map(_indented, [*_reference_rows(metric, t), *(_row(row, t) for row in metric.rows)])
        ends.append(len(rows) - 1)
    columns = (
        Column(t("column.metric_and_configuration"), "left", key=True),
        *(Column(t(f"column.{key}")) for key in ("score", "change", "p_holm")),
    )
    return Table(columns, tuple(rows), t("results.others"), ends=frozenset(ends))


def _heading(name: str, columns: int) -> tuple[Cell, ...]:
    return (Cell(plain(name), strong=True), *(Cell("") for _ in range(columns - 1)))


def _indented(row: tuple[Cell, ...]) -> tuple[Cell, ...]:
    return (replace(row[0], text=f"{INDENT}{row[0].text}", strong=False), *row[1:])


def _reference_rows(metric: MetricComparison, t: Texts) -> Iterable[tuple[Cell, ...]]:
    nothing = (Cell(""), Cell(""))
    if metric.trivial is not None:
        yield Cell(t("row.trivial"), tone="muted"), Cell(score(metric.trivial), tone="muted"), *nothing
    for quantization, estimate in metric.base.items():
        yield Cell(base_name(metric, quantization, t)), _score(estimate), *nothing


def base_name(metric: MetricComparison, quantization: str, t: Texts) -> str:
    """``base``, with its quantisation where there are several."""
    if len(metric.base) < 2:
        return t("row.base")
    return t("row.base_quantized", quantization=quantization_name(quantization, t))


def _row(row: MetricRow, t: Texts) -> tuple[Cell, ...]:
    return (
        Cell(plain(row.configuration), strong=True),
        _score(row.adapted),
        Cell(
            f"{change_text(row)} {MARKS[row.verdict]}".rstrip(),
            interval(row.change, signed=True),
            tone=TONES.get(row.verdict),
        ),
        Cell(p_value(row.p_holm)),
    )


def change_text(row: MetricRow) -> str:
    """The change against the base: ``+0.0892 (+29.89%)``."""
    return change_with_relative(row.change.value if row.change else None, row.relative.value if row.relative else None)


def finding_cell(verdict: Verdict, t: Texts) -> Cell:
    """What the test shows, in words; what is withheld is not told."""
    return Cell(t(f"verdict.{verdict}"), tone=TONES.get(verdict))


def _score(estimate: Estimate | None) -> Cell:
    return Cell(score(estimate.value), interval(estimate)) if estimate else Cell(DASH)


def _compact(group: Group, metrics: Sequence[MetricComparison], t: Texts) -> Iterable[Block]:
    """Many configurations: one row each, one column per metric, intervals and p values left to the CSV."""
    rows = []
    for quantization in dict.fromkeys(quantization for metric in metrics for quantization in metric.base):
        cells = [_plain_score(metric.base.get(quantization)) for metric in metrics]
        widest = max(metrics, key=lambda metric: len(metric.base))
        rows.append((Cell(base_name(widest, quantization, t)), *cells))
    for one in group.configurations:
        found = [next((row for row in metric.rows if row.configuration == one.name), None) for metric in metrics]
        rows.append((Cell(plain(one.name), strong=True), *map(_compact_cell, found)))
    columns = (
        Column(t("column.configuration"), "left", key=True),
        *(Column(plain(metric.name)) for metric in metrics),
    )
    yield Table(columns, tuple(rows), t("results.others"), notes=(t("results.compact_note"),))


def _plain_score(estimate: Estimate | None) -> Cell:
    return Cell(score(estimate.value) if estimate else DASH)


def _compact_cell(row: MetricRow | None) -> Cell:
    if row is None:
        return Cell(DASH)
    text = f"{score(row.adapted.value)} {MARKS[row.verdict]}".rstrip()
    return Cell(text, change_text(row), tone=TONES.get(row.verdict))


def _between(group: Group, task: TaskComparison, t: Texts) -> Iterable[Block]:
    """Adapters among themselves: all pairs of a few; else the leader against all, and the best of each kind."""
    few = len(group.configurations) <= FEW
    scores = {row.configuration: row.adapted.value for row in task.metrics[0].rows}
    rows: list[tuple[Cell, ...]] = []
    ends = []
    for metric in task.metrics if few else task.metrics[:1]:
        pairs = metric.pairs if few else _telling_pairs(group, metric)
        shown = [_pair_row(_higher_first(pair, metric, scores), t) for pair in pairs]
        if shown:
            rows += [_heading(metric.name, 3), *map(_indented, shown)]
            ends.append(len(rows) - 1)
    if not rows:
        return
    columns = (
        Column(t("column.metric_and_pair"), "left", key=True),
        Column(t("column.difference")),
        Column(t("column.p_holm")),
    )
    yield Table(columns, tuple(rows), t("pairs.title"), () if few else (t("pairs.note"),), frozenset(ends))


def _higher_first(pair: PairRow, metric: MetricComparison, primary: Mapping[str, float]) -> PairRow:
    """The pair with the configuration first that scores higher on the primary metric: the same numbers turned round."""
    if primary.get(pair.first, 0.0) >= primary.get(pair.second, 0.0):
        return pair
    new_second = next(row.adapted.value for row in metric.rows if row.configuration == pair.first)
    difference = _negative(pair.difference)
    return replace(
        pair,
        first=pair.second,
        second=pair.first,
        difference=difference,
        relative=Estimate(difference.value / new_second) if new_second else None,
        verdict=MIRROR.get(pair.verdict, pair.verdict),
    )


def _negative(one: Estimate) -> Estimate:
    return Estimate(0.0 - one.value, None if one.high is None else -one.high, None if one.low is None else -one.low)


def _telling_pairs(group: Group, metric: MetricComparison) -> list[PairRow]:
    ranked = sorted(metric.rows, key=lambda row: -row.adapted.value)
    if not ranked:
        return []
    leader = ranked[0].configuration
    kinds = {one.name: one.kind for one in group.configurations}
    best: dict[str, str] = {}
    for row in ranked:
        best.setdefault(kinds.get(row.configuration, ""), row.configuration)
    heads = set(best.values())
    return [
        pair
        for pair in metric.pairs
        if leader in (pair.first, pair.second) or (pair.first in heads and pair.second in heads)
    ]


def _pair_row(pair: PairRow, t: Texts) -> tuple[Cell, ...]:
    told = change_with_relative(pair.difference.value, pair.relative.value if pair.relative else None)
    return (
        Cell(t("pairs.names", first=plain(pair.first), second=plain(pair.second))),
        Cell(
            f"{told} {MARKS[pair.verdict]}".rstrip(),
            interval(pair.difference, signed=True),
            tone=TONES.get(pair.verdict),
        ),
        Cell(p_value(pair.p_holm)),
    )
