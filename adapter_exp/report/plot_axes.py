"""Plot: a metric along an axis of the sweep, with the spread over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapter_exp.comparison.model import Configuration, Group, MetricRow, TaskComparison
from adapter_exp.report.axes import axis_value
from adapter_exp.report.canvas import COLORS, GREY, LINES, MARKERS, logarithmic, new_figure, wrapped
from adapter_exp.report.document import plain
from adapter_exp.report.numbers import compact
from adapter_exp.report.texts import Texts

_Series = list[tuple[float, MetricRow]]

_WIDE_AXIS = 4  # an axis whose ends differ by this factor is logarithmic
MOST_SERIES = len(COLORS) * len(LINES)


def metric_against_axis(group: Group, task: TaskComparison, axis: str, t: Texts) -> Any:
    """One line for each setting of everything else; each seed is a small dot, and they span the band."""
    metric = task.metrics[0]
    series = _series(group, task, axis)
    with new_figure(width=8.0, height=max(4.2, 1.2 + 0.3 * len(series))) as (figure, (axes,)):
        axes.set_title(t("plot.axis.title", task=plain(task.name), metric=plain(metric.name), axis=plain(axis)))
        kinds = list(dict.fromkeys(one.kind for one in group.configurations))
        for number, (name, points) in enumerate(series.items()):
            # A kind keeps its colour where it has one line alone.
            _draw(axes, name, points, kinds.index(name) if name in kinds else number)
        for estimate in list(metric.base.values())[:1]:
            axes.axhline(estimate.value, color=GREY, linewidth=1, linestyle=":", label=t("plot.axis.base"))
        values = sorted({value for points in series.values() for value, _ in points})
        if values[0] > 0 and values[-1] / values[0] >= _WIDE_AXIS:
            axes.set_xscale("log")
            logarithmic(axes.xaxis)
        if len(values) <= 12:  # the values tried, not round numbers between them
            axes.set_xticks(values, [compact(value) for value in values])
            axes.minorticks_off()
        several = any(len(row.by_seed) > 1 for points in series.values() for _, row in points)
        axes.set_xlabel(plain(axis) + (f"\n({t('plot.axis.band')})" if several else ""))
        axes.set_ylabel(plain(metric.name))
        figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _draw(axes: Any, name: str, points: _Series, number: int) -> None:
    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    line = LINES[number // len(COLORS) % len(LINES)]
    places = [value for value, _ in points]
    axes.plot(
        places, [row.adapted.value for _, row in points], line, color=color, marker=marker, label=wrapped(name, 30)
    )
    lows, highs = ([end(row.by_seed or (row.adapted.value,)) for _, row in points] for end in (min, max))
    if any(low < high for low, high in zip(lows, highs, strict=True)):
        axes.fill_between(places, lows, highs, color=color, alpha=0.15, linewidth=0)
        for value, row in points:
            axes.plot([value] * len(row.by_seed), row.by_seed, ".", color=color, markersize=4, alpha=0.7)


def _series(group: Group, task: TaskComparison, axis: str) -> dict[str, _Series]:
    """Lines by what else varies; where that would be too many lines, one for each kind's best at each value."""
    rows = {row.configuration: row for row in task.metrics[0].rows}
    found: dict[str, _Series] = {}
    for one in group.configurations:
        value = axis_value(one, axis)
        if value is not None and one.name in rows:
            found.setdefault(_rest(one, axis, group.varying), []).append((value, rows[one.name]))
    return {name: sorted(points, key=lambda point: point[0]) for name, points in list(found.items())[:MOST_SERIES]}


def _rest(one: Configuration, axis: str, varying: Sequence[str]) -> str:
    others = [
        f"{key.rpartition('.')[2]}={compact(one.axes[key])}"
        for key in varying
        if key != axis and key != "adapter.kind" and key in one.axes and one.axes[key] is not None
    ]
    return " ".join([one.kind, *others])
