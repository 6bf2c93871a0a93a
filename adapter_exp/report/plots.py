"""Pictures of one run, from its record: the loss curve, and base against adapted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapter_exp.report import words
from adapter_exp.report.canvas import BLUE, DPI, GREY, ORANGE, new_figure

PLOT_FOLDER = "plots"


def write_plots(run_dir: Path, record: Mapping[str, Any]) -> list[Path]:
    """Write ``plots/loss.png`` and ``plots/before_after.png``, each if the record has something to show.

    Returns:
        the files written.
    """
    folder = run_dir / PLOT_FOLDER
    drawn = {"loss.png": loss_curve(record), "before_after.png": before_after(record)}
    written = []
    for name, figure in drawn.items():
        if figure is not None:
            folder.mkdir(exist_ok=True)
            figure.savefig(folder / name, dpi=DPI)
            written.append(folder / name)
    return written


def loss_curve(record: Mapping[str, Any]) -> Any | None:
    """Figure of the training loss per step, its running mean and the validation loss; None when nothing was trained."""
    points = _finite(record["training"].get("loss", []))
    if not points:
        return None
    steps, losses = zip(*points, strict=True)
    with new_figure(width=7.0, height=4.0) as (figure, (axes,)):
        window = smoothing_window(len(losses))
        axes.plot(steps, losses, color=BLUE, alpha=0.35, linewidth=1, label="training, each logged step")
        if window > 1:
            axes.plot(steps, running_mean(losses, window), color=BLUE, linewidth=2, label=f"training, mean of {window}")
        validation = _finite(record["training"].get("validation_loss", []))
        if validation:
            axes.plot(*zip(*validation, strict=True), "--D", color=ORANGE, markersize=6, label="validation")
        best = record["training"].get("best_step")
        if best is not None:
            axes.axvline(best, color=GREY, linewidth=1, linestyle=":", label=f"kept: step {best}")
        axes.set(xlabel="optimizer step", ylabel="loss (nats per supervised token)", title=_title(record, "Loss"))
        axes.set_ylim(bottom=0)
        axes.legend()
    return figure


def before_after(record: Mapping[str, Any]) -> Any | None:
    """Figure of each task's primary metric, base against adapted, with 95 % intervals; None when nothing was scored.

    Every task has an axis of its own: accuracy and perplexity share no scale.
    """
    rows = _primary_results(record)
    if not rows:
        return None
    with new_figure(width=7.0, height=0.9 + 1.15 * len(rows), rows=len(rows)) as (figure, all_axes):
        for axes, (task, metric) in zip(all_axes, rows, strict=True):
            _draw_pair(axes, record, task, metric)
            change = words.result(record, "change", task, metric)
            axes.set_title(f"{task}: {metric}", fontsize=10)
            found = _finding(change, words.withheld_findings(record, task))
            axes.set_title(found, loc="right", fontsize=9, fontweight="normal")
        figure.suptitle(_title(record, "Base and adapted"), x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.supxlabel("score on test, with 95 % bootstrap interval", fontsize=9)
    return figure


def smoothing_window(points: int) -> int:
    """Points averaged by the running mean: a twentieth of the curve, at most 50; 1 where that would smooth nothing."""
    return min(50, points // 20) if points >= 40 else 1


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """Mean of each value and the ``window - 1`` before it (fewer at the start); nothing from later steps."""
    means = []
    total = 0.0
    for position, value in enumerate(values):
        total += value - (values[position - window] if position >= window else 0.0)
        means.append(total / min(position + 1, window))
    return means


def _finite(points: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    return [(point["step"], point["loss"]) for point in points if point["loss"] is not None]


def _primary_results(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    pairs = [(task, words.primary_metric(record, task)) for task in words.task_names(record)]
    return [
        (task, metric)
        for task, metric in pairs
        if metric and any(_measured(words.result(record, model, task, metric)) for model in ("base", "adapted"))
    ]


def _measured(interval: Mapping[str, float | None] | None) -> bool:
    return interval is not None and None not in (interval["value"], interval["low"], interval["high"])


def _draw_pair(axes: Any, record: Mapping[str, Any], task: str, metric: str) -> None:
    """Two rows on ``axes``: base above, adapted below; percentages of 0 to 1 where the metric is a share."""
    ends = []
    for height, model, color, marker in ((1, "base", GREY, "o"), (0, "adapted", BLUE, "D")):
        interval = words.result(record, model, task, metric)
        if interval is None or not _measured(interval):
            continue
        value, low, high = (float(interval[key] or 0.0) for key in ("value", "low", "high"))
        # Interval ends can sit a rounding error on the wrong side of the value, and matplotlib refuses negative bars.
        bars = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
        axes.errorbar([value], [height], xerr=bars, color=color, marker=marker, markersize=7, capsize=4, linewidth=2)
        axes.annotate(
            words.number(value), (value, height), (0, 7), textcoords="offset points", ha="center", color=color
        )
        ends += [low, high]
    axes.set(yticks=[1, 0], yticklabels=["base", "adapted"], ylim=(-0.5, 1.8))
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    if min(ends) >= 0 and max(ends) <= 1:
        axes.set_xlim(-0.04, 1.04)  # room for a value at either end
    else:
        axes.margins(x=0.2)


def _finding(change: Mapping[str, float | None] | None, withheld: frozenset[str]) -> str:
    found = words.verdict(change, withheld=withheld)
    if change is None or found == words.UNKNOWN:
        return ""
    ends = ", ".join(words.number(change[end], signed=True) for end in ("low", "high"))
    return f"change {words.number(change['value'], signed=True)} [{ends}]: {found}"


def _title(record: Mapping[str, Any], what: str) -> str:
    kind = record["config"].get("adapter", {}).get("kind", "")
    return " · ".join(part for part in (what, kind, record["model"].get("name"), record["run_id"]) if part)
