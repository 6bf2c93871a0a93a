"""Axes of a sweep: which there are, and where a configuration stands on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from adapter_exp.comparison.model import Configuration, Group
from adapter_exp.report.numbers import compact

_NO_AXES = ("adapter.kind", "quantization.kind", "data")
"""Keys that tell configurations apart and are no setting that one would vary to find its best value."""


@dataclass(frozen=True)
class Axis:
    """A key that takes several values among configurations of one kind.

    Attributes:
        values: as they stand in the configurations, each once; sorted where all are numbers.
        numeric: whether they are numbers, so that there is a lower and an upper edge.
    """

    key: str
    values: tuple[Any, ...]
    numeric: bool

    def position(self, configuration: Configuration) -> float | None:
        """Where the configuration stands: its number, or the place of its value in ``values``; None where nowhere."""
        value = configuration.axes.get(self.key)
        if value is None or value not in self.values:
            return None
        return float(value) if self.numeric else float(self.values.index(value))

    @property
    def labels(self) -> tuple[str, ...]:
        """The values as text."""
        return tuple(compact(value) for value in self.values)


def swept_axes(group: Group) -> list[Axis]:
    """Varying keys with at least two values among configurations of one kind, in the group's order."""
    found = []
    for key in group.varying:
        kinds = [kind for kind in _kinds(group) if len(_values(group, key, kind)) > 1]
        if kinds and key not in _NO_AXES:
            values = [value for kind in kinds for value in _values(group, key, kind)]
            found.append(_axis(key, values))
    return found


def axis_of_kind(group: Group, key: str, kind: str) -> Axis:
    """The same for configurations of one kind."""
    return _axis(key, _values(group, key, kind))


def _axis(key: str, values: list[Any]) -> Axis:
    numeric = all(_is_number(value) for value in values)
    once: list[Any] = []
    for value in sorted(values) if numeric else values:
        if value not in once:  # lists have no hash
            once.append(value)
    return Axis(key, tuple(once), numeric)


def _values(group: Group, key: str, kind: str) -> list[Any]:
    found: list[Any] = []
    for one in group.configurations:
        value = one.axes.get(key)
        if one.kind == kind and value is not None and value not in found:
            found.append(value)
    return found


def _kinds(group: Group) -> list[str]:
    return list(dict.fromkeys(one.kind for one in group.configurations))


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
