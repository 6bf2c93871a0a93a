"""What all plots share: a figure without pyplot, colours, markers, a key of configurations, labels that do not overlap.

Colours are Okabe and Ito's (2008), told apart by colour-blind readers; markers and line styles differ as well, so the
pictures survive a black-and-white print.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from adapter_exp.comparison.model import Group
from adapter_exp.report.document import plain

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"
GREEN, PURPLE, SKY, AMBER, BLACK = "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
DPI = 160
STYLE: Any = {  # matplotlib types its keys as a literal of 300 names
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
    "text.parse_math": False,  # a name may hold dollar signs
}
KEY_WIDTH = 40  # characters of a configuration's name in a key, a line


@contextmanager
def new_figure(*, width: float, height: float, rows: int = 1, columns: int = 1) -> Iterator[tuple[Any, list[Any]]]:
    """A figure and its axes, row by row, without pyplot, which keeps global state and wants a display.

    Args:
        width, height: in inches.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False)
        yield figure, list(axes.ravel())


def png(figure: Any) -> bytes:
    """``figure`` as a PNG file."""
    from matplotlib import rc_context

    with rc_context(STYLE):  # ticks are laid out only when the figure is drawn
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=DPI, format="png", metadata={"Software": None})
    return buffer.getvalue()


@dataclass(frozen=True)
class Look:
    """How a configuration is drawn, and its number in the group."""

    number: int
    color: str
    marker: str
    line: Any  # matplotlib types line styles as a literal


def looks(group: Group) -> dict[str, Look]:
    """By configuration's name: colour and marker by kind, line by place within it; one kind alone takes all of them."""
    kinds = list(dict.fromkeys(one.kind for one in group.configurations))
    seen: dict[str, int] = {}
    found = {}
    for number, one in enumerate(group.configurations):
        within = seen.get(one.kind, 0)
        seen[one.kind] = within + 1
        style = number if len(kinds) == 1 else kinds.index(one.kind)
        line = number // len(COLORS) if len(kinds) == 1 else within
        marker = MARKERS[(style + style // len(COLORS)) % len(MARKERS)]
        found[one.name] = Look(number + 1, COLORS[style % len(COLORS)], marker, LINES[line % len(LINES)])
    return found


def logarithmic(axis: Any) -> None:
    """Set ticks at powers of ten, and between them where they are few, without mathematical markup."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 30 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))
    axis.set_minor_formatter(NullFormatter())


def linear(axis: Any) -> None:
    """Set a few ticks, written in full: an offset beside the axis is read by nobody.

    The view is at least a tenth of the largest value: what differs by less is drawn as the small difference that it is.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    low, high = axis.get_view_interval()
    missing = 0.1 * max(abs(low), abs(high)) - (high - low)
    if missing > 0:
        axis.set_view_interval(low - missing / 2, high + missing / 2, ignore=True)
    axis.set_major_locator(MaxNLocator(nbins=4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: thousands(value)))


def thousands(value: float) -> str:
    """``20k``, ``1.5M``: for the ticks of an axis."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def wrapped(text: str, width: int = KEY_WIDTH) -> str:
    """A printable ``text`` in lines of at most ``width`` characters, three at most."""
    lines = textwrap.wrap(plain(text), width, break_long_words=True, break_on_hyphens=False) or [""]
    return "\n".join(lines if len(lines) <= 3 else [*lines[:2], lines[2][: width - 1] + "…"])


def draw_key(
    figure: Any,
    group: Group,
    names: Sequence[str],
    *,
    lines: bool = False,
    hollow: Collection[str] = (),
    note: str = "",
) -> None:
    """A numbered key of configurations to the right of the plot; with their lines where there are some.

    Args:
        hollow: configurations drawn with an empty marker; ``note`` below the key says what that means.
    """
    from matplotlib.lines import Line2D

    styles = looks(group)
    handles = [
        Line2D(
            [],
            [],
            linestyle=styles[name].line if lines else "",
            marker=styles[name].marker,
            color=styles[name].color,
            markerfacecolor="white" if name in hollow else styles[name].color,
            markersize=5 if lines else 7,
        )
        for name in names
    ]
    labels = [f"{styles[name].number}  {wrapped(name)}" for name in names]
    if hollow:
        handles.append(Line2D([], [], linestyle="", marker="o", color=GREY, markerfacecolor="white", markersize=7))
        labels.append(wrapped(note))
    length: dict[str, Any] = {"handlelength": 3.0} if lines else {"handletextpad": 0.3}
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, borderaxespad=0.2, **length)


def stack_labels(axes: Any, ends: Sequence[tuple[float, float]], texts: Sequence[str]) -> None:
    """Write ``texts`` in a column right of the axes, each as near to the height of its line's end as there is room."""
    low, high = axes.get_ylim()
    heights = [(y - low) / ((high - low) or 1) for _, y in ends]
    order = sorted(range(len(ends)), key=lambda number: heights[number])
    gap = min(0.042, 1 / max(1, len(ends)))
    places: list[float] = []
    for number in order:
        places.append(max(heights[number], places[-1] + gap) if places else heights[number])
    # Pushed upwards only so far: move the whole column back to the middle of its lines, and inside the axes.
    shift = fmean(place - heights[number] for number, place in zip(order, places, strict=True)) if places else 0.0
    shift = max(min(shift, places[0]), places[-1] - 1.0) if places else 0.0
    places = [place - shift for place in places]
    for number, place in zip(order, places, strict=True):
        axes.annotate(
            texts[number],
            ends[number],
            (1.03, place),
            textcoords="axes fraction",
            fontsize=8,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 1, "shrinkB": 0},
        )


def key_height(names: Sequence[str]) -> float:
    """Inches that a key of ``names`` takes, with a note."""
    return 0.6 + 0.175 * sum(wrapped(name).count("\n") + 1 for name in names)


def place_labels(figure: Any, axes: Any, points: Sequence[tuple[float, float]], texts: Sequence[str]) -> list[Any]:
    """Write ``texts`` beside ``points`` so that no two overlap and none covers a point; far ones get a thin line.

    Each label takes the first free spot on growing circles around its point.
    """
    import numpy as np

    figure.draw_without_rendering()  # the layout settles here; before it the axes have no final place
    figure.set_layout_engine("none")
    scale = figure.dpi / 72
    pixels = axes.transData.transform(np.asarray(points, float).reshape(-1, 2))
    frame = axes.bbox
    taken = [(x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for x, y in pixels]
    labels = []
    for (x, y), text, point in zip(pixels, texts, points, strict=True):
        half = (3.1 * len(text) + 1.5) * scale, 6 * scale
        dx, dy = _free_spot((x, y), half, taken, (frame.x0, frame.y0, frame.x1, frame.y1), scale)
        taken.append((x + dx - half[0], y + dy - half[1], x + dx + half[0], y + dy + half[1]))
        far = np.hypot(dx, dy) > 16 * scale
        arrow = {"arrowstyle": "-", "color": GREY, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3} if far else None
        labels.append(
            axes.annotate(
                text,
                point,
                (dx / scale, dy / scale),
                textcoords="offset points",
                ha="center",
                va="center",
                fontsize=9,
                arrowprops=arrow,
            )
        )
    return labels


_Box = tuple[float, float, float, float]


def _free_spot(
    at: tuple[float, float], half: tuple[float, float], taken: Sequence[_Box], frame: _Box, scale: float
) -> tuple[float, float]:
    import math

    for radius in range(11, 120, 7):
        for step in range(16):
            angle = math.pi / 4 + step * math.pi / 8
            dx, dy = radius * scale * math.cos(angle), radius * scale * math.sin(angle)
            x, y = at[0] + dx, at[1] + dy
            box = (x - half[0], y - half[1], x + half[0], y + half[1])
            inside = box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]
            if inside and not any(_overlap(box, other) for other in taken):
                return dx, dy
    return 11 * scale, 11 * scale


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
