"""Batches that do not fit in memory go through the model in pieces, within the same step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adapter_exp.data.rendering import TrainingRow
from adapter_exp.training.batches import Collate

PIECES = "pieces"
"""Key of a split batch: the batches of its pieces."""

Size = Callable[[Sequence[TrainingRow]], int]
"""How much memory rows take in one pass, in any unit; more rows take more."""


class Splitting:
    """A collator whose batches stay within a size.

    The loss is a sum over answer tokens that is divided by those of the whole step, so the gradients of the pieces
    add up to the batch's.

    Args:
        collate: rows to a batch.
        size_of: of the rows of one pass.
        limit: largest size of a pass of more than one row.
    """

    def __init__(self, collate: Collate, size_of: Size, limit: int) -> None:
        self.collate = collate
        self.size_of = size_of
        self.limit = limit

    def __call__(self, rows: Sequence[TrainingRow]) -> dict[str, Any]:
        """The batch of ``rows``, or the batches of its pieces under ``PIECES``."""
        pieces = self.pieces(rows)
        return self.collate(rows) if len(pieces) == 1 else {PIECES: [self.collate(piece) for piece in pieces]}

    def computed_tokens(self, rows: Sequence[TrainingRow]) -> int:
        """Tokens that the layers run over for a batch of ``rows``."""
        return sum(self.collate.computed_tokens(piece) for piece in self.pieces(rows))

    def pieces(self, rows: Sequence[TrainingRow]) -> list[list[TrainingRow]]:
        """``rows`` in order, cut before each row that would take a piece above the limit."""
        pieces: list[list[TrainingRow]] = []
        for row in rows:
            if pieces and self.size_of([*pieces[-1], row]) <= self.limit:
                pieces[-1].append(row)
            else:
                pieces.append([row])
        return pieces


def pieces_of(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """The batches that go through the model one after the other: those of a split batch, or the batch itself."""
    pieces: list[dict[str, Any]] = batch.get(PIECES, [batch])
    return pieces
