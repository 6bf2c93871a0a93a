"""Plot: a metric along an axis of the sweep, with the spread over seeds."""

from __future__ import annotations

from typing import Any

from adapter_exp.comparison.configurations import label
from adapter_exp.comparison.model import Configuration, Group, MetricComparison, MetricRow, TaskComparison
from adapter_exp.report.axes import Axis
from adapter_exp.report.canvas import COLORS, GREY, LINES, MARKERS, logarithmic, new_figure, wrapped
from adapter_exp.report.comparison_tasks import base_name
from adapter_exp.report.document import plain
from adapter_exp.report.numbers import compact
from adapter_exp.report.texts import Texts

_Series = list[tuple[float, MetricRow]]

_WIDE_AXIS = 4  # an axis whose ends differ by this factor is logarithmic
_MOST_TICKS = 12
BASE_LINES = (":", "-.", "--")
MOST_SERIES = len(COLORS) * len(LINES)


def metric_against_axis(group: Group, task: TaskComparison, axis: Axis, t: Texts) -> Any:
    """One line for each setting of everything else; each seed is a small dot, and they span the band.

    Values that are no numbers (``last:4``, ``all``) stand beside each other, without lines between them.
    """
    metric = task.metrics[0]
    series = _series(group, task, axis)
    kinds = list(dict.fromkeys(one.kind for one in group.configurations))
    with new_figure(width=8.0, height=max(4.2, 1.2 + 0.3 * len(series))) as (figure, (axes,)):
        title = t("plot.axis.title", task=plain(task.name), metric=plain(metric.name), axis=plain(axis.key))
        axes.set_title(wrapped(title, 70))
        for number, (name, points) in enumerate(series.items()):
            # A kind keeps its colour where it has one line alone.
            look = kinds.index(name) if name in kinds else number
            shift = 0.0 if axis.numeric else 0.5 * ((number + 0.5) / len(series) - 0.5)
            _draw(axes, name, [(place + shift, row) for place, row in points], look, joined=axis.numeric)
        for number, (value, name) in enumerate(_bases(metric, t).items()):
            axes.axhline(
                value, color=GREY, linewidth=1, linestyle=BASE_LINES[number % len(BASE_LINES)], label=wrapped(name, 30)
            )
        _ticks(axes, axis)
        several = any(len(row.by_seed) > 1 for points in series.values() for _, row in points)
        axes.set_xlabel(plain(axis.key) + (f"\n({t('plot.axis.band')})" if several else ""))
        axes.set_ylabel(plain(metric.name))
        figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _ticks(axes: Any, axis: Axis) -> None:
    """The values tried, not round numbers between them."""
    if not axis.numeric:
        axes.set_xticks(range(len(axis.values)), [wrapped(label, 16) for label in axis.labels])
        axes.set_xlim(-0.5, len(axis.values) - 0.5)
        return
    if axis.values[0] > 0 and axis.values[-1] / axis.values[0] >= _WIDE_AXIS:
        axes.set_xscale("log")
        logarithmic(axes.xaxis)
    if len(axis.values) <= _MOST_TICKS:
        axes.set_xticks(axis.values, axis.labels)
        axes.minorticks_off()


def _draw(axes: Any, name: str, points: _Series, number: int, *, joined: bool) -> None:
    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    line = LINES[number // len(COLORS) % len(LINES)] if joined else ""
    places = [place for place, _ in points]
    scores = [row.adapted.value for _, row in points]
    axes.plot(places, scores, linestyle=line, color=color, marker=marker, label=wrapped(name, 30))
    lows, highs = ([end(row.by_seed or (row.adapted.value,)) for _, row in points] for end in (min, max))
    if all(low == high for low, high in zip(lows, highs, strict=True)):
        return
    if joined:
        axes.fill_between(places, lows, highs, color=color, alpha=0.15, linewidth=0)
    else:
        axes.vlines(places, lows, highs, color=color, alpha=0.3, linewidth=6)
    for place, row in points:
        axes.plot([place] * len(row.by_seed), row.by_seed, ".", color=color, markersize=4, alpha=0.7)


def _series(group: Group, task: TaskComparison, axis: Axis) -> dict[str, _Series]:
    """Points by what else varies, in the order of the axis; as many as there are ways to draw them apart."""
    rows = {row.configuration: row for row in task.metrics[0].rows}
    found: dict[str, _Series] = {}
    for one in group.configurations:
        place = axis.position(one)
        if place is not None and one.name in rows:
            found.setdefault(_rest(one, axis.key, group), []).append((place, rows[one.name]))
    return {name: sorted(points, key=lambda point: point[0]) for name, points in list(found.items())[:MOST_SERIES]}


def _rest(one: Configuration, axis: str, group: Group) -> str:
    """The kind, and what else varies among configurations of this kind."""
    own = [other for other in group.configurations if other.kind == one.kind]
    keys = [
        key
        for key in group.varying
        if key not in (axis, "adapter.kind") and any(other.axes.get(key) != one.axes.get(key) for other in own)
    ]
    others = [f"{label(key, keys)}={compact(one.axes.get(key))}" for key in keys]
    return " ".join([one.kind, *others])


def _bases(metric: MetricComparison, t: Texts) -> dict[float, str]:
    """The base's score at each quantisation, with its name; bases with one score share a line."""
    found: dict[float, list[str]] = {}
    for quantization, estimate in metric.base.items():
        found.setdefault(estimate.value, []).append(base_name(metric, quantization, t))
    return {value: ", ".join(names) for value, names in found.items()}
