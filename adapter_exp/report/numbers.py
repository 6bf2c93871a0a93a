"""Numbers as strings, equal in every language and format: a decimal point, thousands apart by a no-break space."""

from __future__ import annotations

import math
from typing import TypeGuard

from adapter_exp.comparison.model import Estimate

DASH = "–"
"""Stands where there is no number."""

SPACE = "\u00a0"
"""No-break space: between thousands, and between a number and its unit."""


def exists(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number to show."""
    return value is not None and math.isfinite(value)


def score(value: float | None) -> str:
    """A metric with four decimals; with two from 100 on."""
    return _fixed(value, "")


def change(value: float | None) -> str:
    """A difference of metrics with its sign; no sign where it rounds to 0."""
    return _fixed(value, "+")


def percent(value: float | None) -> str:
    """A relative change, given as a share, in percent with its sign."""
    if not exists(value):
        return DASH
    shown = f"{100 * value:+.2f}%"
    return "0.00%" if float(shown[:-1]) == 0 else shown


def share(value: float | None) -> str:
    """A share in percent, without a sign: two decimals, and three significant digits below 1 %."""
    if not exists(value):
        return DASH
    shown = 100 * value
    decimals = 2 if shown >= 1 or shown <= 0 else 2 - math.floor(math.log10(shown))
    return f"{shown:.{decimals}f}%"


def change_with_relative(absolute: float | None, relative: float | None) -> str:
    """``+0.0892 (+29.89%)``; the relative part is a dash where the base scored 0."""
    return DASH if not exists(absolute) else f"{change(absolute)} ({percent(relative)})"


def interval(estimate: Estimate | None, *, signed: bool = False, relative: bool = False) -> str:
    """``[0.4321, 0.5123]``; empty where there is no interval."""
    if estimate is None or not (exists(estimate.low) and exists(estimate.high)):
        return ""
    shown = percent if relative else change if signed else score
    return f"[{shown(estimate.low)}, {shown(estimate.high)}]"


def p_value(value: float | None) -> str:
    """Three decimals; ``<0.001`` below that."""
    if not exists(value):
        return DASH
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def whole(value: float | None) -> str:
    """``27 262 976``, with no-break spaces: a comma would be a decimal comma to half of the readers."""
    if not exists(value):
        return DASH
    return f"{round(value):,}".replace(",", SPACE)


def compact(value: object) -> str:
    """A value of the configuration: ``0.001``, ``16``, ``q_proj, v_proj``."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: DASH}[value]
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(compact(one) for one in value) or DASH
    return str(value)


def rounded_up(value: float) -> str:
    """Two significant digits, never fewer than ``value``: for numbers of items that a plan needs."""
    if value < 10:
        return str(math.ceil(value))
    step = 10 ** (math.floor(math.log10(value)) - 1)
    return whole(math.ceil(value / step) * step)


def _fixed(value: float | None, sign: str) -> str:
    if not exists(value):
        return DASH
    decimals = 2 if abs(value) >= 100 else 4
    shown = f"{value:{sign}.{decimals}f}"
    return f"{0:.{decimals}f}" if float(shown) == 0 else shown
