"""Plot: the training loss of every configuration."""

from __future__ import annotations

from typing import Any

from adapter_exp.comparison.model import Configuration, Group
from adapter_exp.report.canvas import draw_key, key_height, looks, new_figure, stack_labels
from adapter_exp.report.plots import running_mean, smoothing_window
from adapter_exp.report.texts import Texts


def has_losses(group: Group) -> bool:
    """Whether any run recorded losses."""
    return any(_curve(one) for one in group.configurations)


def loss_curves(group: Group, t: Texts) -> Any:
    """One smoothed line per configuration, averaged over its seeds; its number stands at its end."""
    from matplotlib.ticker import MaxNLocator

    styles = looks(group)
    curves = {one.name: curve for one in group.configurations if (curve := _curve(one))}
    names = list(curves)
    with new_figure(width=8.5, height=max(4.2, key_height(names))) as (figure, (axes,)):
        axes.set_title(t("plot.loss.title"))
        for name, points in curves.items():
            style = styles[name]
            steps, losses = zip(*points, strict=True)
            means = running_mean(losses, smoothing_window(len(losses)))
            marks = max(1, len(steps) // 6)
            axes.plot(
                steps, means, style.line, color=style.color, marker=style.marker,
                markevery=(style.number % marks, marks), markersize=4, linewidth=1.3,
            )  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(f"{t('plot.loss.x')}\n({t('plot.loss.mean')})")
        axes.set_ylabel(t("plot.loss.y"))
        width = smoothing_window
        ends = [
            (points[-1][0], running_mean([y for _, y in points], width(len(points)))[-1]) for points in curves.values()
        ]
        stack_labels(axes, ends, [str(styles[name].number) for name in names])
        draw_key(figure, group, names, lines=True)
    return figure


def _curve(one: Configuration) -> list[tuple[int, float]]:
    """Mean over the seeds that have a finite loss at a step."""
    found: dict[int, list[float]] = {}
    for run in one.runs:
        for point in run.record["training"].get("loss", []):
            if point["loss"] is not None:
                found.setdefault(int(point["step"]), []).append(float(point["loss"]))
    return [(step, sum(losses) / len(losses)) for step, losses in sorted(found.items())]
