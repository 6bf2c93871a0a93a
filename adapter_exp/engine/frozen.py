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

from adapter_exp.engine.decoder import embed, run_layers
from adapter_exp.engine.layout import Layout, common_prefix
from adapter_exp.engine.store import StateStore

Row = Sequence[int]
"""Token ids of one example."""
Pass = tuple[Sequence[int], Sequence[Tensor]]
"""Numbers of rows that were computed together; what was made of the tokens all begin with, then of each row's own."""

_FORMAT = 1
# Of a model's configuration; Trainer changes the latter.
_NOT_NUMBERS = ("_name_or_path", "use_cache")
_PASS_TOKENS = 2048


class FrozenStates:
    """Hidden states entering layer ``cut`` of known rows.

    Args:
        head: states of the tokens that all rows begin with, (tokens, width).
        own: by ``row_key``, states of each row's further tokens, (tokens, width).
    """

    def __init__(self, cut: int, head: Tensor, own: Mapping[str, Tensor]) -> None:
        self.cut = cut
        self._head = head
        self._own = own

    def states(self, rows: Sequence[Row], prefix: int) -> Tensor:
        """States (tokens, width) of ``rows`` that share their first ``prefix`` tokens, these first and once."""
        return torch.cat([self.span(rows[:1], 0, prefix), self.span(rows, prefix)])

    def span(self, rows: Sequence[Row], start: int, end: int | None = None) -> Tensor:
        """States (tokens, width) of the tokens ``start`` to ``end`` of each of ``rows``."""
        return torch.cat([part for row in rows for part in self._span(row, start, len(row) if end is None else end)])

    def _span(self, row: Row, start: int, end: int) -> list[Tensor]:
        known = len(self._head)
        return [self._head[start:end], self._own[row_key(row)][max(start - known, 0) : max(end - known, 0)]]


@dataclass(frozen=True)
class Freezer:
    """Makes ``FrozenStates`` of a base's rows and keeps them.

    Attributes:
        model: with or without adapters; none of them sits below the cuts that are asked for.
        weights_sha256: of the base. With the model's configuration, dtype, cut, what the rows begin with and library
            versions it names a space.
        dtype: what the layers compute in.
        autocast: context of the passes.
    """

    model: Any
    store: StateStore
    weights_sha256: str
    dtype: torch.dtype
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext

    def room_for(self, rows: Sequence[Row]) -> bool:
        """Whether the states of ``rows`` entering one layer can be kept."""
        tokens = sum(len(row) for row in dict.fromkeys(map(tuple, rows)))
        size: int = self.state_dtype().itemsize
        return self.store.room_for(tokens * self.model.config.hidden_size * size)

    def freeze(
        self, rows: Sequence[Row], cut: int, on_progress: Callable[[int, int], None] = lambda done, total: None
    ) -> FrozenStates:
        """States of ``rows`` entering layer ``cut`` (1 or higher).

        Rows that are not kept run from the highest lower cut for which all are kept, else from the embeddings.

        Args:
            on_progress: called with the rows computed so far and the rows to compute.
        """
        rows, head = without_repeats(rows)
        keys = list(map(row_key, rows))

        def known(layer: int) -> FrozenStates:
            first, own = self.keep(self.space(layer, head), head, keys, lambda due: passes(due, layer))
            return FrozenStates(layer, first, dict(zip(keys, own, strict=True)))

        def passes(due: list[int], layer: int) -> Iterator[Pass]:
            # Damage can take away rows below, so they may have to be computed too.
            lower = next((c for c in range(layer - 1, 0, -1) if self._has(self.space(c, head), head, keys)), 0)
            below = known(lower) if lower else None
            done = 0
            for batch in batches(due, rows, len(head)):
                yield batch, self._run([rows[k] for k in batch], len(head), below, layer)
                done += len(batch)
                if layer == cut:
                    on_progress(done, len(due))

        return known(cut)

    def keep(
        self,
        space: str,
        head: Row,
        keys: Sequence[str],
        passes: Callable[[list[int]], Iterable[Pass]],
        *,
        width: int | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """What is made of ``head`` and, after it, of each of ``keys``: read, or computed and kept.

        Args:
            passes: computes for these numbers of ``keys``.
            width: of what is made; None: that of hidden states.

        Returns:
            (tokens, width) of the head, without tokens where that is empty, and of each key.
        """

        def compute(wanted: list[int]) -> Iterator[tuple[int, Tensor]]:
            left = set(wanted)
            for numbers, made in passes(sorted({max(index - bool(head), 0) for index in wanted})):
                found = [(0, made[0])] if head else []  # every pass makes the head's anew
                found += zip([number + bool(head) for number in numbers], made[1:], strict=True)
                yield from [(index, one) for index, one in found if index in left]
                left -= {index for index, _ in found}

        kept = self._kept if width is None else self._kept | {"width": width}
        found = self.store.rows(space, _names(head, keys), compute=compute, **kept)
        return (found.pop(0) if head else found[0][:0]), found

    def _has(self, space: str, head: Row, keys: Sequence[str]) -> bool:
        return self.store.has(space, _names(head, keys), **self._kept)

    @property
    def _kept(self) -> dict[str, Any]:
        return {"width": self.model.config.hidden_size, "dtype": self.state_dtype()}

    @torch.no_grad()
    def _run(self, rows: Sequence[Row], prefix: int, below: FrozenStates | None, cut: int) -> list[Tensor]:
        """States entering ``cut`` of the first ``prefix`` tokens, then of each row's own."""
        layout = Layout([len(row) - prefix for row in rows], prefix=prefix).to(self.model.device)
        with self.autocast():
            if below is None:
                tokens = [*rows[0][:prefix], *(token for row in rows for token in row[prefix:])]
                states, first = embed(self.model, torch.tensor(tokens, device=self.model.device)), 0
            else:
                states, first = below.states(rows, prefix).to(self.model.device), below.cut
            states = run_layers(self.model, layout, states, first=first, last=cut).to(self.state_dtype())
        return list(torch.split(states, [prefix, *layout.rows]))

    def space(self, layer: int, head: Row, rows: str = "rows") -> str:
        """Name of what decides the states of ``rows`` (their kind) entering ``layer`` after ``head``, hex digest."""
        # Equal weights compute otherwise under another configuration: a window, rotary frequencies, an epsilon.
        config = {key: value for key, value in self.model.config.to_dict().items() if key not in _NOT_NUMBERS}
        facts = [_FORMAT, rows, self.weights_sha256, config, str(self.dtype), self.model.device.type, layer, list(head)]
        facts += [version("torch"), version("transformers")]
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
    """

    freezer: Freezer
    cut: int


def row_key(ids: Row) -> str:
    """Identity of a tokenised row, hex SHA-256."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def without_repeats(rows: Sequence[Row]) -> tuple[list[Row], Row]:
    """Each row once, and what all of them begin with; every row keeps a token of its own."""
    once: list[Row] = list(dict.fromkeys(map(tuple, rows)))
    return once, once[0][: min(common_prefix(once), *(len(row) - 1 for row in once))]


def batches(numbers: Sequence[int], rows: Sequence[Row], prefix: int) -> Iterator[list[int]]:
    """Row numbers in passes of some 2,000 tokens, rows of like length together."""
    batch: list[int] = []
    tokens = 0
    for number in sorted(numbers, key=lambda number: len(rows[number])):
        own = len(rows[number]) - prefix
        if batch and tokens + own > _PASS_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(number)
        tokens += own
    if batch:
        yield batch


def _names(head: Row, keys: Sequence[str]) -> list[str]:
    return [*([row_key(head)] if head else []), *keys]
