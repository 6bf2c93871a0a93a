"""Attention over a ``Layout``, registered with transformers under a name of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from adapter_exp.engine.layout import Group, Layout

NAME = "adapter_exp_packed"


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of a transformers decoder layer whose tokens lie as ``layout`` says.

    Args:
        query: (1, heads, tokens, head width); ``key`` and ``value``: (1, key heads, tokens, head width).
        attention_mask: not read; the layout knows who sees whom.
        sliding_window: a token sees the last so many positions, itself among them; None: all.

    Returns:
        (1, tokens, heads, head width), and None for the weights, which are never held.
    """
    flat = [tensor[0].transpose(0, 1) for tensor in (query, key, value)]  # (tokens, heads, head width)
    outputs = [
        _attend(group, *flat, dropout=dropout, scaling=scaling, window=sliding_window) for group in layout.groups
    ]
    return torch.cat(outputs)[None], None


@contextmanager
def attention_function(model: Any, name: str) -> Iterator[None]:
    """Let ``model`` compute attention with the function that transformers knows by ``name``."""
    config = model.config
    former = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = former


def _attend(
    group: Group,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """Attention output of the group's tokens, (tokens of the group, heads, head width)."""
    runs, longest = group.shape
    heads, width = query.shape[1:]
    key_heads = key.shape[1]
    repeats = heads // key_heads
    # Query heads that share a key head become more queries of that head: no copies of keys and values.
    queries = _spread(query, group).view(runs, longest, key_heads, repeats, width)
    output = scaled_dot_product_attention(
        queries.permute(0, 2, 3, 1, 4).reshape(runs, key_heads, repeats * longest, width),
        _seen(group, key).transpose(1, 2),
        _seen(group, value).transpose(1, 2),
        attn_mask=group.mask(window, repeats, query.dtype),
        dropout_p=dropout,
        scale=scaling,
    )
    output = output.view(runs, key_heads, repeats, longest, width).permute(0, 3, 1, 2, 4)
    return _gather(output.reshape(runs * longest, heads, width), group)


def _seen(group: Group, tensor: Tensor) -> Tensor:
    """Keys or values that each run of the group may see, (runs, keys, key heads, head width)."""
    runs, longest = group.shape
    parts = [_spread(tensor, group).view(runs, longest, *tensor.shape[1:])]
    if group.context is not None:
        parts.insert(0, tensor[group.context])
    if group.shared:
        parts.insert(0, tensor[: group.shared].expand(runs, -1, -1, -1))
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


def _spread(tokens: Tensor, group: Group) -> Tensor:
    """Flat tokens (tokens, ...) to the places of a group's rectangle (runs x longest, ...)."""
    places: Tensor = _Spread.apply(tokens, group.spread, group.gather)  # type: ignore[no-untyped-call]  # untyped in torch
    return places


def _gather(places: Tensor, group: Group) -> Tensor:
    """The places of a group's rectangle back to its tokens."""
    tokens: Tensor = _Gather.apply(places, group.gather)  # type: ignore[no-untyped-call]  # untyped in torch
    return tokens


class _Spread(torch.autograd.Function):
    """Flat tokens to a padded rectangle. The gradient of padding is dropped: nothing real depends on it."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, spread: Tensor, gather: Tensor) -> Tensor:
        """(places, ...) of (tokens, ...)."""
        ctx.save_for_backward(spread, gather)
        ctx.tokens = len(tokens)
        return tokens.index_select(0, spread)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the tokens, given that of their places."""
        spread, gather = ctx.saved_tensors
        # A gather instead of autograd's index_add: each token has one place, and serial additions are slow on a CPU.
        own = grad.index_select(0, gather)
        if len(own) == ctx.tokens:
            return own, None, None
        whole = grad.new_zeros(ctx.tokens, *grad.shape[1:])
        whole[spread.index_select(0, gather)] = own
        return whole, None, None


class _Gather(torch.autograd.Function):
    """A padded rectangle back to flat tokens."""

    @staticmethod
    def forward(ctx: Any, places: Tensor, gather: Tensor) -> Tensor:
        """(tokens, ...) of (places, ...)."""
        ctx.save_for_backward(gather)
        ctx.places = len(places)
        return places.index_select(0, gather)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """The gradient of the places, given that of their tokens; 0 for padding."""
        (gather,) = ctx.saved_tensors
        places = grad.new_zeros(ctx.places, *grad.shape[1:])
        places[gather] = grad
        return places, None


AttentionInterface.register(NAME, packed_attention)
