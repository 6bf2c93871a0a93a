"""States of contexts and their continuations entering an adapter's lowest layer, kept for all adapters above it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from adapter_exp.engine.branches import Branching
from adapter_exp.engine.frozen import FrozenLayers, FrozenStates, Pass


def branch_states(frozen: FrozenLayers, passes: Sequence[Branching]) -> Iterator[Tensor] | None:
    """States (tokens, width) entering the cut for each pass, put together when asked for; None if they do not fit.

    Args:
        passes: that begin with the same prefix.
    """
    freezer = frozen.freezer
    head = list(passes[0].contexts[0][: passes[0].prefix])
    tokens = len(head) + sum(len(one.tokens) - len(head) for one in passes)
    if not freezer.room_for_tokens(tokens):
        frozen.on_unkept(f"speed.frozen_cache: not used for labels, {tokens} tokens' states do not fit.")
        return None
    items = [(number, place) for number, one in enumerate(passes) for place in range(len(one.contexts))]
    keys = [_item_key(passes[number], place) for number, place in items]

    def computed(due: list[int], layer: int, below: FrozenStates | None) -> Iterator[Pass]:
        for number, group in groupby(due, key=lambda k: items[k][0]):
            numbers = list(group)
            part = _part(passes[number], [items[k][1] for k in numbers])
            states = None if below is None else _join(part, below.head, [below.own[keys[k]] for k in numbers])
            layout = part.layout.to(freezer.model.device)
            made = freezer.run(layout, part.tokens, states, below.cut if below else 0, layer)
            yield numbers, _split(part, made)

    kept = freezer.keep(frozen.cut, head, keys, computed, kind="branches")
    own = (kept.own[key] for key in keys)
    return (_join(one, kept.head, [next(own) for _ in one.contexts]) for one in passes)


def _item_key(branching: Branching, place: int) -> str:
    """Identity of a context and what of its continuations runs through the layers, hex SHA-256."""
    branches = [list(tokens[:-1]) for tokens in branching.continuations[place]]
    return hashlib.sha256(json.dumps([list(branching.contexts[place]), branches]).encode()).hexdigest()


def _part(branching: Branching, places: Sequence[int]) -> Branching:
    return Branching(
        [branching.contexts[place] for place in places],
        [branching.continuations[place] for place in places],
        branching.prefix,
    )


def _split(branching: Branching, states: Tensor) -> list[Tensor]:
    """States of the prefix, and of each context's own tokens with those of its branches behind them."""
    layout = branching.layout
    pieces = torch.split(states, [layout.prefix, *layout.rows, *(tokens for _, tokens in layout.branches)])
    items: list[list[Tensor]] = [[piece] for piece in pieces[1 : 1 + len(layout.rows)]]
    for (row, _), piece in zip(layout.branches, pieces[1 + len(layout.rows) :], strict=True):
        items[row].append(piece)
    return [pieces[0], *map(torch.cat, items)]


def _join(branching: Branching, prefix: Tensor, items: Sequence[Tensor]) -> Tensor:
    """The inverse of ``_split``."""
    rows = branching.layout.rows
    own = [item[:tokens] for item, tokens in zip(items, rows, strict=True)]
    branches = [item[tokens:] for item, tokens in zip(items, rows, strict=True)]
    return torch.cat([prefix, *own, *branches])
