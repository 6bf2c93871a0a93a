"""The last layer's feed-forward part over the tokens whose result is read, and no others.

Keys and values of every token are seen by later ones, but what comes after the last attention is seen by nobody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn


def feeding_forward_only(decoder: Any, tokens: Tensor | None) -> AbstractContextManager[None]:
    """Run the last layer's feed-forward part, adapters in it included, over ``tokens`` alone.

    What the layer makes of the others means nothing. A compiled layer stays as it is: it wants the same modules in
    every call.

    Args:
        decoder: a transformers decoder whose layers have an ``mlp``.
        tokens: flat index of the tokens, each once, (tokens,); None: all.
    """
    whole = feed_forward(decoder)
    if tokens is None or whole is None or decoder.layers[-1]._compiled_call_impl is not None:
        return nullcontext()
    return feeding_forward_through(decoder, _Over(whole, tokens))


def feed_forward(decoder: Any) -> nn.Module | None:
    """The last layer's feed-forward part as it is now; None where a stand-in for the layer has none."""
    part: nn.Module | None = _block(decoder)._modules.get("mlp")
    return part


@contextmanager
def feeding_forward_through(decoder: Any, part: nn.Module | None) -> Iterator[None]:
    """Let ``part`` stand for the last layer's feed-forward part; None: as it is."""
    modules = _block(decoder)._modules
    if part is None:
        yield
        return
    former = modules["mlp"]
    modules["mlp"] = part
    try:
        yield
    finally:
        modules["mlp"] = former


def _block(decoder: Any) -> Any:
    layer = decoder.layers[-1]
    while "base_layer" in layer._modules:  # an adapter around the block
        layer = layer._modules["base_layer"]
    return layer


class _Over(nn.Module):
    """A module over some tokens; 0 for the others."""

    def __init__(self, module: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.module = module
        self.tokens = tokens

    def forward(self, hidden: Tensor) -> Tensor:
        """(1, tokens, width) of the same."""
        made: Tensor = self.module(hidden.index_select(1, self.tokens))
        return made.new_zeros(hidden.shape[:-1] + made.shape[-1:]).index_copy(1, self.tokens, made)
