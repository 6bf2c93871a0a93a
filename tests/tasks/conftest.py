"""Hypothesis settings: a busy machine is no failure."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("adapter_exp", deadline=None)
settings.load_profile("adapter_exp")
