"""Settings of evaluation as plain typed values; imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator


def _auto_or_count(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("is not auto or a whole number, at least 1")


BatchSize = Annotated[int | Literal["auto"], BeforeValidator(_auto_or_count)]
"""Rows computed together; ``auto``: as many as pay and fit."""
