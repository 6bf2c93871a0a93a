"""Numeric axes of a sweep: which there are, and where a configuration stands on them."""

from __future__ import annotations

import math

from adapter_exp.comparison.model import Configuration, Group


def swept_axes(group: Group) -> list[str]:
    """Varying keys with at least two numeric values among configurations of one kind, in the group's order."""
    return [axis for axis in group.varying if any(len(values) > 1 for values in _by_kind(group, axis).values())]


def axis_values(group: Group, axis: str, kind: str) -> list[float]:
    """The numeric values of ``axis`` among configurations of ``kind``, sorted, each once."""
    return sorted(_by_kind(group, axis).get(kind, set()))


def axis_value(configuration: Configuration, axis: str) -> float | None:
    """The configuration's value where it is a finite number, else None."""
    value = configuration.axes.get(axis)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _by_kind(group: Group, axis: str) -> dict[str, set[float]]:
    found: dict[str, set[float]] = {}
    for one in group.configurations:
        value = axis_value(one, axis)
        if value is not None:
            found.setdefault(one.kind, set()).add(value)
    return found
