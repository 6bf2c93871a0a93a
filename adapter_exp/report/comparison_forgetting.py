"""Section 5: gain on the special task against forgetting on the general one, and the balance score."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from adapter_exp.comparison.model import BalanceRow, Estimate, Group
from adapter_exp.report import plot_tradeoffs
from adapter_exp.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table, file_name, plain
from adapter_exp.report.numbers import DASH, change, interval, percent
from adapter_exp.report.texts import Texts


def forgetting(group: Group, t: Texts, prefix: str) -> Section:
    """One table and one plot for each pair of a special and a general task."""
    pairs = dict.fromkeys((row.special, row.general) for row in group.balance)
    if not pairs:
        return Section(t("forgetting.title"), (Paragraph(t("forgetting.none")),))
    blocks: list[Block] = [Paragraph(t("forgetting.legend"), tone="muted")]
    for special, general in pairs:
        rows = [row for row in group.balance if (row.special, row.general) == (special, general)]
        names = {"special": plain(special), "general": plain(general)}
        blocks.append(_table(rows, t("forgetting.table", **names), t))
        blocks.append(
            Figure(
                f"{prefix}gain_forgetting_{file_name(special)}_{file_name(general)}",
                t("plot.forgetting.title", **names),
                partial(plot_tradeoffs.gain_against_forgetting, group, rows, t),
            )
        )
    return Section(t("forgetting.title"), tuple(blocks))


def _table(rows: Sequence[BalanceRow], caption: str, t: Texts) -> Table:
    shown = [
        (
            Cell(plain(row.configuration), strong=True),
            _change(row.gain),
            _change(row.forgetting),
            _relative(row.published),
            _change(row.absolute),
        )
        for row in rows
    ]
    columns = (
        Column(t("column.configuration"), "left", key=True),
        *(Column(t(f"forgetting.{key}")) for key in ("gain", "forgetting", "published", "absolute")),
    )
    return Table(columns, tuple(shown), caption)


def _change(estimate: Estimate | None) -> Cell:
    return Cell(change(estimate.value), interval(estimate, signed=True)) if estimate else Cell(DASH)


def _relative(estimate: Estimate | None) -> Cell:
    return Cell(percent(estimate.value), interval(estimate, relative=True)) if estimate else Cell(DASH)
