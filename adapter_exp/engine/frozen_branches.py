"""States of contexts and their continuations entering an adapter's lowest layer, kept for all adapters above it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from adapter_exp.engine.branches import Branching
from adapter_exp.engine.decoder import embed, run_layers
from adapter_exp.engine.frozen import FrozenLayers, Pass


def branch_states(frozen: FrozenLayers, passes: Sequence[Branching]) -> list[Tensor] | None:
    """States (tokens, width) entering the cut for each pass; None where they do not fit into the store.

    Args:
        passes: that begin with the same prefix.
    """
    freezer = frozen.freezer
    width, dtype = freezer.model.config.hidden_size, freezer.state_dtype()
    head = list(passes[0].contexts[0][: passes[0].prefix])
    tokens = sum(len(one.tokens) for one in passes)
    if not freezer.store.room_for(tokens * width * dtype.itemsize):
        return None
    items = [(number, place) for number, one in enumerate(passes) for place in range(len(one.contexts))]

    def computed(due: list[int]) -> Iterator[Pass]:
        for number, group in groupby(due, key=lambda k: items[k][0]):
            numbers = list(group)
            part = _part(passes[number], [items[k][1] for k in numbers])
            yield numbers, _split(part, _run(frozen, part))

    keys = [_item_key(passes[number], place) for number, place in items]
    first, rows = freezer.keep(freezer.space(frozen.cut, head, "branches"), head, keys, computed)
    own = iter(rows)
    return [_join(one, first, [next(own) for _ in one.contexts]) for one in passes]


@torch.no_grad()
def _run(frozen: FrozenLayers, part: Branching) -> Tensor:
    model = frozen.freezer.model
    with frozen.freezer.autocast():
        states = embed(model, torch.tensor(part.tokens, device=model.device))
        states = run_layers(model, part.layout.to(model.device), states, last=frozen.cut)
    return states.to(frozen.freezer.state_dtype())


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
