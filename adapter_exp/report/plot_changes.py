"""Plot: the change of each configuration against the base, with intervals."""

from __future__ import annotations

from typing import Any

from adapter_exp.comparison.model import Estimate, Group, MetricRow, TaskComparison
from adapter_exp.report.canvas import BLACK, GREY, looks, new_figure, wrapped
from adapter_exp.report.document import plain
from adapter_exp.report.numbers import change, exists
from adapter_exp.report.texts import Texts


def change_by_configuration(group: Group, task: TaskComparison, t: Texts) -> Any:
    """One row per configuration, in the group's order: filled where a difference was shown, hollow where not."""
    metric = task.metrics[0]
    rows = [row for row in metric.rows if row.change is not None and exists(row.change.value)]
    styles = looks(group)
    names = [wrapped(row.configuration, 34) for row in rows]
    lines = sum(name.count("\n") + 1 for name in names)
    with new_figure(width=8.0, height=1.5 + 0.17 * lines + 0.1 * len(rows)) as (figure, (axes,)):
        axes.set_title(t("plot.change.title", task=plain(task.name), metric=plain(metric.name)), fontsize=11)
        axes.axvline(0, color=BLACK, linewidth=1)
        if metric.smallest_difference is not None:
            limit = metric.smallest_difference
            axes.axvspan(-limit, limit, color="#eeeeee", zorder=0, label=t("plot.change.band"))
        for height, row in zip(range(len(rows), 0, -1), rows, strict=True):
            _draw(axes, row, height, styles[row.configuration])
            axes.annotate(
                f"{change(row.change.value if row.change else None)}  {t(f'verdict.{row.verdict}')}",
                (1.01, height), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=GREY
                if row.verdict not in ("higher", "lower") else BLACK,
            )  # fmt: skip
        axes.set_yticks(range(len(rows), 0, -1), names, fontsize=9)
        axes.set_ylim(0.4, len(rows) + 0.6)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.08)
        axes.set_xlabel(t("plot.change.x", metric=plain(metric.name)))
        if metric.smallest_difference is not None:
            figure.legend(loc="outside lower center", fontsize=8)
    return figure


def _draw(axes: Any, row: MetricRow, height: float, style: Any) -> None:
    if row.change is None:
        return
    shown = row.verdict in ("higher", "lower")
    axes.errorbar(
        [row.change.value], [height], xerr=bars(row.change), color=style.color, marker=style.marker, markersize=7,
        capsize=3, linewidth=1.5, markerfacecolor=style.color if shown else "white",
        linestyle="", elinewidth=1.5,
    )  # fmt: skip


def bars(estimate: Estimate) -> list[list[float]] | None:
    """Lengths of the error bars below and above; None without an interval."""
    if not (exists(estimate.low) and exists(estimate.high)):
        return None
    # Interval ends can sit a rounding error on the wrong side of the value, and matplotlib refuses negative bars.
    return [[max(estimate.value - estimate.low, 0.0)], [max(estimate.high - estimate.value, 0.0)]]
