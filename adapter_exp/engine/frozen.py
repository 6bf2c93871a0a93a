"""States entering the lowest layer that trains: constant over epochs and runs, so computed once and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        parts = self._span(rows[0], 0, prefix)
        for row in rows:
            parts += self._span(row, prefix, len(row))
        return torch.cat(parts)

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
        rows = list(dict.fromkeys(map(tuple, rows)))
        head = rows[0][: min(common_prefix(rows), *(len(row) - 1 for row in rows))]
        names = [*([row_key(head)] if head else []), *map(row_key, rows)]
        kept = {"width": self.model.config.hidden_size, "dtype": self.state_dtype()}

        def known(layer: int, compute: Any) -> FrozenStates:
            found = self.store.rows(self.space(layer, head), names, **kept, compute=compute)
            first = found.pop(0) if head else found[0][:0]
            return FrozenStates(layer, first, dict(zip(names[len(names) - len(rows) :], found, strict=True)))

        def compute(wanted: list[int], layer: int = cut) -> Iterator[tuple[int, Tensor]]:
            # Damage can take away rows below, so they may have to be computed too.
            lower = next((c for c in range(layer - 1, 0, -1) if self._has(c, head, names, kept)), 0)
            below = known(lower, lambda missing: compute(missing, lower)) if lower else None
            numbers = sorted({max(index - bool(head), 0) for index in wanted})
            left, done = set(wanted), 0
            for batch in _batches(numbers, rows, len(head)):
                made = self._run([rows[k] for k in batch], len(head), below, layer)
                found = [(0, made[0])] if head else []  # every pass makes the head's states anew
                found += zip([k + bool(head) for k in batch], made[1:], strict=True)
                yield from [(index, states) for index, states in found if index in left]
                left -= {index for index, _ in found}
                done += len(batch)
                on_progress(done, len(numbers))

        return known(cut, compute)

    def _has(self, layer: int, head: Row, names: Sequence[str], kept: Mapping[str, Any]) -> bool:
        return self.store.has(self.space(layer, head), names, **kept)

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


def row_key(ids: Row) -> str:
    """Identity of a tokenised row, hex SHA-256."""
    return hashlib.sha256(json.dumps(list(ids)).encode()).hexdigest()


def _batches(numbers: Sequence[int], rows: Sequence[Row], prefix: int) -> Iterator[list[int]]:
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
