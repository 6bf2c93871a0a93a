"""Plots: gain against forgetting, and quality against cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adapter_exp.comparison.model import BalanceRow, CostRow, Group, MetricRow, TaskComparison
from adapter_exp.report.canvas import (
    BLACK,
    draw_key,
    key_height,
    linear,
    logarithmic,
    looks,
    new_figure,
    place_labels,
)
from adapter_exp.report.document import plain
from adapter_exp.report.numbers import exists
from adapter_exp.report.plot_changes import bars
from adapter_exp.report.texts import Texts
from adapter_exp.report.withheld import gates_against

_GIB = 1024**3
_WIDE_AXIS = 8  # a cost that varies by more is drawn on a logarithmic axis


def gain_against_forgetting(group: Group, rows: Sequence[BalanceRow], t: Texts) -> Any:
    """Gain upwards, change on the general task to the right, both with intervals; up and right is better."""
    styles = looks(group)
    special, general = rows[0].special, rows[0].general
    metrics = {task.name: plain(task.metrics[0].name) for task in group.tasks if task.metrics}
    names = [row.configuration for row in rows]
    hollow = {name for name in names if gates_against(group, name, special, general)}
    with new_figure(width=8.5, height=max(4.6, key_height(names))) as (figure, (axes,)):
        axes.set_title(t("plot.forgetting.title", special=plain(special), general=plain(general)))
        axes.axhline(0, color=BLACK, linewidth=0.8)
        axes.axvline(0, color=BLACK, linewidth=0.8)
        for row in rows:
            style = styles[row.configuration]
            axes.errorbar(
                [row.forgetting.value], [row.gain.value], xerr=bars(row.forgetting), yerr=bars(row.gain),
                color=style.color, marker=style.marker, markersize=7, linewidth=0, elinewidth=0.9, capsize=2, alpha=0.9,
                markerfacecolor="white" if row.configuration in hollow else style.color,
            )  # fmt: skip
        axes.margins(0.08)
        axes.set_xlabel(t("plot.forgetting.x", general=plain(general), metric=metrics.get(general, "")))
        axes.set_ylabel(t("plot.forgetting.y", special=plain(special), metric=metrics.get(special, "")))
        draw_key(figure, group, names, hollow=hollow, note=t("plot.hollow"))
        points = [(row.forgetting.value, row.gain.value) for row in rows]
        place_labels(figure, axes, points, [str(styles[name].number) for name in names])
    return figure


def has_costs(group: Group, task: TaskComparison) -> bool:
    """Whether some cost is known of at least two configurations."""
    return bool(_panels(group, task))


def quality_against_cost(group: Group, task: TaskComparison, t: Texts) -> Any:
    """The primary metric against parameters, training time and peak memory, as far as they are known."""
    panels = _panels(group, task)
    styles = looks(group)
    shown = {row.configuration for points in panels.values() for row, _ in points}
    names = [one.name for one in group.configurations if one.name in shown]
    hollow = {name for name in names if gates_against(group, name, task.name)}
    metric = plain(task.metrics[0].name)
    height = max(4.0, key_height(names))
    with new_figure(width=3.1 * len(panels) + 2.4, height=height, columns=len(panels)) as (figure, all_axes):
        figure.suptitle(
            t("plot.cost.title", task=plain(task.name), metric=metric), x=0.01, ha="left", fontsize=11, weight="bold"
        )
        for axes, (cost, points) in zip(all_axes, panels.items(), strict=True):
            for row, value in points:
                style = styles[row.configuration]
                axes.errorbar(
                    [value], [row.adapted.value], yerr=bars(row.adapted), color=style.color, marker=style.marker,
                    markersize=7, linewidth=0, elinewidth=0.9, capsize=2,
                    markerfacecolor="white" if row.configuration in hollow else style.color,
                )  # fmt: skip
            axes.margins(0.12)
            values = [value for _, value in points]
            if min(values) > 0 and max(values) / min(values) > _WIDE_AXIS:
                axes.set_xscale("log")
                logarithmic(axes.xaxis)
            else:
                linear(axes.xaxis)
            axes.set_xlabel(t(f"plot.cost.{cost}"))
        all_axes[0].set_ylabel(metric)
        draw_key(figure, group, names, hollow=hollow, note=t("plot.hollow"))
        for axes, points in zip(all_axes, panels.values(), strict=True):
            places = [(value, row.adapted.value) for row, value in points]
            place_labels(figure, axes, places, [str(styles[row.configuration].number) for row, _ in points])
    return figure


def _panels(group: Group, task: TaskComparison) -> dict[str, list[tuple[MetricRow, float]]]:
    """For each cost that at least two configurations know: their rows and values."""
    costs = {row.configuration: row for row in group.costs}
    rows = [row for row in task.metrics[0].rows if row.configuration in costs] if task.metrics else []
    panels = {}
    for name, read in _COSTS.items():
        points = [(row, value) for row in rows if exists(value := read(costs[row.configuration]))]
        if len(points) > 1:
            panels[name] = points
    return panels


def _peak_gib(row: CostRow) -> float | None:
    """Memory of the device where it was used, else of the process."""
    peak = row.peak_device_bytes if row.peak_device_bytes is not None else row.peak_rss_bytes
    return None if peak is None else peak / _GIB


_COSTS: dict[str, Callable[[CostRow], float | None]] = {
    "parameters": lambda row: row.trainable_parameters,
    "training": lambda row: row.training_s,
    "memory": _peak_gib,
}
