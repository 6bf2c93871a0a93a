"""Decoder layers through ``torch.compile`` for the time of a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface

from adapter_exp.engine.attention import NAME, packed_attention


@contextmanager
def compiled_layers(model: Any, first: int) -> Iterator[None]:
    """Compile the decoder layers from ``first`` up, and leave them as they were.

    The packed attention stays as it is: its rectangles have other shapes in every batch, and
    ``scaled_dot_product_attention`` is one kernel already. What is compiled around it (norms, projections, activations,
    the residual stream) takes the number of tokens as it comes.

    Args:
        model: a causal language model of transformers.
        first: lowest layer that trains; those below run at most once per example.
    """
    layers = list(model.get_decoder().layers)[first:]
    AttentionInterface.register(NAME, torch.compiler.disable(packed_attention))  # type: ignore[no-untyped-call]  # untyped in torch
    for layer in layers:
        layer.compile(dynamic=True)
    try:
        yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None  # torch has no public way back
        AttentionInterface.register(NAME, packed_attention)
