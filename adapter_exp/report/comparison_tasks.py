"""Section 3: every metric of every task, base against each adapter and adapters among themselves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
from adapter_exp.report.numbers import DASH, change, change_with_relative, interval, p_value, score, whole
from adapter_exp.report.texts import Texts

FEW = 4
"""Up to so many configurations every metric and every pair is told in full; beyond, the primary metric is."""

TONES: dict[Verdict, Tone] = {"higher": "good", "lower": "bad", "withheld": "warn", "tie": "muted"}
MARKS: dict[Verdict, str] = {"higher": "▲", "lower": "▼", "withheld": "?", "tie": "", "not_measured": ""}


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
    caption = t("results.primary", metric=plain(primary.name))
    yield _full((primary,), caption, t)
    yield Figure(
        f"{prefix}change_{file_name(task.name)}",
        t("plot.change.title", task=plain(task.name), metric=plain(primary.name)),
        lambda: plot_changes.change_by_configuration(group, task, t),
    )
    if others and len(group.configurations) <= FEW:
        yield _full(others, t("results.others"), t)
    elif others:
        yield from _compact(group, others, t)
    yield from _between(group, task, t)


def _missing(group: Group, task: TaskComparison, t: Texts) -> Iterable[Block]:
    """A metric that only some runs have is told, so that a shorter table is no silent loss."""
    names = [one.name for one in group.configurations]
    for metric in task.metrics:
        absent = [name for name in names if name not in {row.configuration for row in metric.rows}]
        if absent:
            text = t("results.missing", metric=plain(metric.name), names=t.join(absent), number=len(absent))
            yield Paragraph(text, tone="warn")


def _full(metrics: Sequence[MetricComparison], caption: str, t: Texts) -> Table:
    """Rows: the base, then each configuration, for each metric."""
    several = len(metrics) > 1
    rows: list[tuple[Cell, ...]] = []
    ends = []
    for metric in metrics:
        block = [*_reference_rows(metric, t), *(_row(row, t) for row in metric.rows)]
        if several:
            block = [
                (Cell("" if position else plain(metric.name), strong=True), *row) for position, row in enumerate(block)
            ]
        rows += block
        ends.append(len(rows) - 1)
    names = [Column(t("column.metric"), "left", key=True)] if several else []
    columns = (
        *names,
        Column(t("column.configuration"), "left", key=True),
        *(Column(t(f"column.{key}")) for key in ("score", "change", "p_holm")),
        Column(t("column.finding"), "left"),
    )
    return Table(columns, tuple(rows), caption, ends=frozenset(ends))


def _reference_rows(metric: MetricComparison, t: Texts) -> Iterable[tuple[Cell, ...]]:
    nothing = (Cell(""), Cell(""), Cell(""))
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
        finding_cell(row.verdict, t),
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
    return Cell(text, change(row.change.value if row.change else None), tone=TONES.get(row.verdict))


def _between(group: Group, task: TaskComparison, t: Texts) -> Iterable[Block]:
    """Adapters among themselves: all pairs of a few; else the leader against all, and the best of each kind."""
    few = len(group.configurations) <= FEW
    metrics = task.metrics if few else task.metrics[:1]
    rows: list[tuple[Cell, ...]] = []
    ends = []
    for metric in metrics:
        pairs = metric.pairs if few else _telling_pairs(group, metric)
        rows += [_pair_row(plain(metric.name) if not n else "", pair, t) for n, pair in enumerate(pairs)]
        ends.append(len(rows) - 1)
    if not rows:
        return
    columns = (
        Column(t("column.metric"), "left", key=True),
        Column(t("column.pair"), "left", key=True),
        Column(t("column.difference")),
        Column(t("column.p_holm")),
        Column(t("column.finding"), "left"),
    )
    notes = () if few else (t("pairs.note"),)
    yield Table(columns, tuple(rows), t("pairs.title"), notes, frozenset(ends))


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


def _pair_row(metric: str, pair: PairRow, t: Texts) -> tuple[Cell, ...]:
    told = change_with_relative(pair.difference.value, pair.relative.value if pair.relative else None)
    return (
        Cell(metric, strong=True),
        Cell(t("pairs.names", first=plain(pair.first), second=plain(pair.second))),
        Cell(
            f"{told} {MARKS[pair.verdict]}".rstrip(),
            interval(pair.difference, signed=True),
            tone=TONES.get(pair.verdict),
        ),
        Cell(p_value(pair.p_holm)),
        finding_cell(pair.verdict, t),
    )
