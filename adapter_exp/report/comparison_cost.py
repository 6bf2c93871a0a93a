"""Section 6: what each configuration cost, and which are on the Pareto front."""

from __future__ import annotations

from functools import partial

from adapter_exp.comparison.model import CostRow, Group
from adapter_exp.report import plot_losses, plot_tradeoffs
from adapter_exp.report.document import Block, Cell, Column, Figure, Paragraph, Section, Table, file_name, plain
from adapter_exp.report.numbers import DASH, change, exists, interval, share, whole
from adapter_exp.report.texts import Texts
from adapter_exp.report.withheld import gates_against


def cost(group: Group, t: Texts, prefix: str) -> Section:
    """Costs, the front over gain, forgetting and parameters, quality against cost, loss curves."""
    blocks: list[Block] = []
    if group.costs:
        blocks.append(_costs(group, t))
    blocks += _front(group, t)
    for task in group.tasks:
        if task.metrics and plot_tradeoffs.has_costs(group, task):
            blocks.append(
                Figure(
                    f"{prefix}cost_{file_name(task.name)}",
                    t("plot.cost.title", task=plain(task.name), metric=plain(task.metrics[0].name)),
                    partial(plot_tradeoffs.quality_against_cost, group, task, t),
                )
            )
    if plot_losses.has_losses(group):
        blocks.append(Figure(f"{prefix}loss", t("plot.loss.title"), partial(plot_losses.loss_curves, group, t)))
    return Section(t("cost.title"), tuple(blocks) or (Paragraph(t("cost.none")),))


def _costs(group: Group, t: Texts) -> Table:
    device = any(row.peak_device_bytes is not None for row in group.costs)
    keys = ["parameters", "training", "wall", "speed", "rss", *(["device"] if device else []), "saved"]
    rows = [(Cell(plain(row.configuration), strong=True), *_cost_cells(row, device, t)) for row in group.costs]
    columns = (Column(t("column.configuration"), "left", key=True), *(Column(t(f"cost.{key}")) for key in keys))
    return Table(columns, tuple(rows), t("cost.table"), notes=(t("cost.note"),))


def _cost_cells(row: CostRow, device: bool, t: Texts) -> list[Cell]:
    values = [
        whole(row.trainable_parameters),
        t.duration(row.training_s),
        t.duration(row.wall_s),
        t("unit.tokens_per_s", number=whole(row.tokens_per_s)) if exists(row.tokens_per_s) else DASH,
        t.size(row.peak_rss_bytes),
        *([t.size(row.peak_device_bytes)] if device else []),
        t.size(row.saved_bytes),
    ]
    return [Cell(value) for value in values]


def _front(group: Group, t: Texts) -> list[Block]:
    """How surely each configuration is on the front; nothing where no probability can be had."""
    balance = [row for row in group.balance if row.on_front is not None]
    if len(balance) < 2:
        return []
    costs = {row.configuration: row.trainable_parameters for row in group.costs}
    several = len({(row.special, row.general) for row in balance}) > 1
    rows = []
    for row in sorted(balance, key=lambda row: -(row.on_front or 0.0)):
        tasks = f" ({plain(row.special)}, {plain(row.general)})" if several else ""
        rows.append(
            (
                Cell(plain(row.configuration) + tasks, strong=True),
                Cell(change(row.gain.value), interval(row.gain, signed=True)),
                Cell(change(row.forgetting.value), interval(row.forgetting, signed=True)),
                Cell(whole(costs.get(row.configuration))),
                Cell(
                    share(row.on_front)
                    + (" ?" if gates_against(group, row.configuration, row.special, row.general) else "")
                ),
            )
        )
    keys = ("forgetting.gain", "forgetting.forgetting", "cost.parameters", "front.share")
    columns = (Column(t("column.configuration"), "left", key=True), *(Column(t(key)) for key in keys))
    return [Table(columns, tuple(rows), t("front.title"), notes=(t("front.note"),))]
