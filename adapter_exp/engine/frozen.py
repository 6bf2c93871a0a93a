"""States entering the lowest layer that trains: constant over epochs and runs, so computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from adapter_exp.engine.attention import NAME as PACKED
from adapter_exp.engine.decoder import embed, run_layers
from adapter_exp.engine.layout import Layout, in_order, prefix_before_own
from adapter_exp.engine.specs import PASS_TOKENS
from adapter_exp.engine.store import StateStore

Row = Sequence[int]
"""Token ids of one example."""
Pass = tuple[Sequence[int], Sequence[Tensor]]
"""Numbers of rows that were computed together; what was made of the tokens all begin with, then of each row's own."""

_FORMAT = 2
# Of a model's configuration: its name, and a cache of transformers' that no pass here makes.
_NOT_NUMBERS = ("_name_or_path", "use_cache")
_LIBRARIES = ("torch", "transformers", "bitsandbytes")
# Attention copies the keys and values of what all rows begin with for each row: at most for so many tokens in a pass.
_SEEN_TOKENS = 1 << 15


@dataclass(frozen=True)
class FrozenStates:
    """What known rows are when they enter layer ``cut``.

    Attributes:
        head: of the tokens that all rows begin with, (tokens, width).
        own: by ``row_key``, of each row's further tokens, (tokens, width).
    """

    cut: int
    head: Tensor
    own: Mapping[str, Tensor]

    def states(self, rows: Sequence[Row], prefix: int) -> Tensor:
        """States (tokens, width) of ``rows`` that share their first ``prefix`` tokens, these first and once."""
        return torch.cat([self.span(rows[:1], 0, prefix), self.span(rows, prefix)])

    def span(self, rows: Sequence[Row], start: int, end: int | None = None) -> Tensor:
        """States (tokens, width) of the tokens ``start`` to ``end`` of each of ``rows``."""
        return torch.cat([part for row in rows for part in self._span(row, start, len(row) if end is None else end)])

    def _span(self, row: Row, start: int, end: int) -> list[Tensor]:
        known = len(self.head)
        return [self.head[start:end], self.own[row_key(row)][max(start - known, 0) : max(end - known, 0)]]


@dataclass(frozen=True)
class Freezer:
    """Makes ``FrozenStates`` of a base's rows and keeps them.

    Attributes:
        model: with or without adapters; none of them sits below the cuts that are asked for.
        weights_sha256: of the base. With the model's configuration, dtype, cut, what the rows begin with and library
            versions it names a space.
        dtype: what the layers compute in.
        autocast: context of the passes.
        place: name of what computes; nothing that another place made is used.
    """

    model: Any
    store: StateStore
    weights_sha256: str
    dtype: torch.dtype
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    place: str = ""

    def room_for(self, rows: Sequence[Row]) -> bool:
        """Whether the states of ``rows`` entering one layer can be kept."""
        return self.room_for_tokens(sum(len(row) for row in dict.fromkeys(map(tuple, rows))))

    def room_for_tokens(self, tokens: int, *, width: int | None = None) -> bool:
        """Whether ``width`` numbers for each of so many tokens can be kept; None: hidden states."""
        size: int = self.state_dtype().itemsize
        return self.store.room_for(tokens * (width or self.model.config.hidden_size) * size)

    def freeze(
        self, rows: Sequence[Row], cut: int, on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> FrozenStates:
        """States of ``rows`` entering layer ``cut`` (1 or higher).

        Args:
            on_progress: called with the rows computed so far and the rows to compute.
        """
        rows, head = without_repeats(rows)

        def passes(due: list[int], layer: int, below: FrozenStates | None) -> Iterator[Pass]:
            done = 0
            for batch in batches(due, rows, len(head)):
                part = [rows[k] for k in batch]
                layout = Layout([len(row) - len(head) for row in part], prefix=len(head))
                states = None if below is None else below.states(part, len(head))
                tokens = in_order(part, len(head))
                made = self.run(layout.to(self.model.device), tokens, states, below.cut if below else 0, layer)
                yield batch, torch.split(made, [len(head), *layout.rows])
                done += len(batch)
                if layer == cut:
                    on_progress(done, len(due))

        return self.keep(cut, head, list(map(row_key, rows)), passes)

    def keep(
        self,
        cut: int,
        head: Row,
        keys: Sequence[str],
        passes: Callable[[list[int], int, FrozenStates | None], Iterable[Pass]],
        *,
        kind: str = "rows",
        width_below: int = 0,
    ) -> FrozenStates:
        """What ``head`` and, after it, each of ``keys`` is when it enters layer ``cut``: read, or computed and kept.

        What is not kept is made from the highest lower cut for which all is, else from the embeddings.

        Args:
            passes: computes for these numbers of ``keys``, for a layer, from what enters a lower one (None: nothing).
            kind: of what is kept; other kinds are other spaces.
            width_below: numbers that are kept of each layer below the cut, beside the states.
        """
        names = [*([row_key(head)] if head else []), *keys]

        def place(layer: int) -> dict[str, Any]:
            width = self.model.config.hidden_size + layer * width_below
            return {"space": self._space(layer, head, kind), "width": width, "dtype": self.state_dtype()}

        def known(layer: int) -> FrozenStates:
            found = self.store.rows(keys=names, compute=lambda wanted: compute(wanted, layer), **place(layer))
            first = found.pop(0) if head else found[0][:0]
            return FrozenStates(layer, first, dict(zip(keys, found, strict=True)))

        def compute(wanted: list[int], layer: int) -> Iterator[tuple[int, Tensor]]:
            lower = next((c for c in range(layer - 1, 0, -1) if self.store.has(keys=names, **place(c))), 0)
            below = known(lower) if lower else None  # damage can take away some of it, so it may be computed too
            left = set(wanted)
            for numbers, made in passes(sorted({max(index - bool(head), 0) for index in wanted}), layer, below):
                found = [(0, made[0])] if head else []  # every pass makes the head's anew
                found += zip([number + bool(head) for number in numbers], made[1:], strict=True)
                yield from [(index, one) for index, one in found if index in left]
                left -= {index for index, _ in found}

        return known(cut)

    @torch.no_grad()
    def run(
        self,
        layout: Any,
        tokens: Sequence[int],
        states: Tensor | None,
        first: int,
        last: int,
        attention: str = PACKED,
    ) -> Tensor:
        """Run the layers ``first`` to ``last`` (not included); see ``run_layers``.

        Args:
            states: entering ``first``, (tokens, width); None: the embeddings of ``tokens``.
        """
        device = self.model.device
        with self.autocast():
            states = embed(self.model, torch.tensor(tokens, device=device)) if states is None else states.to(device)
            made = run_layers(self.model, layout, states, first=first, last=last, attention=attention)
        return made.to(self.state_dtype())

    def _space(self, layer: int, head: Row, kind: str) -> str:
        """Name of what decides what rows of a kind are when they enter ``layer`` after ``head``, hex digest."""
        # Equal weights compute otherwise under another configuration: a window, rotary frequencies, an epsilon.
        config = {key: value for key, value in self.model.config.to_dict().items() if key not in _NOT_NUMBERS}
        facts = [_FORMAT, kind, self.weights_sha256, config, str(self.dtype), self.model.device.type, self.place]
        facts += [layer, list(head), *(version(name) for name in _LIBRARIES)]
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()

    def state_dtype(self) -> torch.dtype:
        """The residual stream's dtype: autocast leaves it as the embeddings made it."""
        dtype: torch.dtype = self.model.get_input_embeddings().weight.dtype
        return dtype


@dataclass(frozen=True)
class FrozenLayers:
    """The layers below an adapter, and what keeps what they make.

    Attributes:
        freezer: names and stores it; nothing trained sits below the cut.
        cut: the lowest layer with an adapter, 1 or higher.
        on_unkept: told in one line why something is not kept.
    """

    freezer: Freezer
    cut: int
    on_unkept: Callable[[str], None] = lambda reason: None


def row_key(ids: Row) -> str:
    """Identity of a tokenised row, hex SHA-256."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def without_repeats(rows: Sequence[Row]) -> tuple[list[Row], Row]:
    """Each row once, and what all of them begin with; every row keeps a token of its own."""
    once: list[Row] = list(dict.fromkeys(map(tuple, rows)))
    return once, once[0][: prefix_before_own(once)]


def batches(numbers: Sequence[int], rows: Sequence[Row], prefix: int) -> Iterator[list[int]]:
    """Row numbers in passes of some 2,000 tokens, rows of like length together."""
    batch: list[int] = []
    tokens = 0
    for number in sorted(numbers, key=lambda number: len(rows[number])):
        own = len(rows[number]) - prefix
        if batch and (tokens + own > PASS_TOKENS or (len(batch) + 1) * prefix > _SEEN_TOKENS):
            yield batch
            batch, tokens = [], 0
        batch.append(number)
        tokens += own
    if batch:
        yield batch
