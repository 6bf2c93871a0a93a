"""Shared models: one per quantisation and session; every test that uses one leaves it bare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from adapter_exp.models.quiet import quiet_libraries

from .cases import load_tiny

quiet_libraries()


class _Models:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bare: dict[str, Any] = {}

    def lend(self, stored: str) -> Iterator[Any]:
        torch.manual_seed(0)
        model = self.bare.pop(stored, None) or load_tiny(self.folder, stored)
        yield model
        assert not hasattr(model, "peft_config"), "the test left an adapter on the shared model"
        assert not any(parameter.requires_grad for parameter in model.parameters())
        self.bare[stored] = model  # a test that fails keeps its model to itself


@pytest.fixture(scope="session")
def _models(tiny_folder: Path) -> _Models:
    return _Models(tiny_folder)


@pytest.fixture
def model(_models: _Models) -> Iterator[Any]:
    """The bare fp32 model."""
    yield from _models.lend("none")


@pytest.fixture
def nf4_model(_models: _Models) -> Iterator[Any]:
    """The bare nf4 model."""
    yield from _models.lend("nf4")


@pytest.fixture(params=["nf4", "int8"])
def quantized(request: pytest.FixtureRequest, _models: _Models) -> Iterator[tuple[Any, str]]:
    """A bare quantised model and how it is stored."""
    for model in _models.lend(request.param):
        yield model, request.param
