"""Which rows form a batch, and how rows become tensors."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from torch.utils.data import Sampler

from adapter_exp.data.rendering import TrainingRow

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

IGNORED_LABEL = -100
ANSWERS = "answers"
"""Key of a counted batch: its answer tokens, known without asking the device."""
# Rows are sorted inside windows of this many batches: little padding, and batches still differ between epochs.
_WINDOW_BATCHES = 16


class BucketSampler(Sampler[int]):
    """Row indices in training order, a pure function of ``(seed, epoch)``, so that a resumed run sees the same batches.

    With ``buckets`` the rows are shuffled, cut into windows of 16 batches, sorted by length inside each window and
    cut into batches, whose order is shuffled again. Without, they are only shuffled. A short last batch stays last.

    Args:
        lengths: tokens of every row.
        batch_size: rows per batch.
        seed: with the epoch, decides the order.
        buckets: batches of rows of like length.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, seed: int, buckets: bool) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.buckets = buckets
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        return iter([index for batch in self.batches(self.epoch) for index in batch])

    def batches(self, epoch: int) -> list[list[int]]:
        """Row indices of every batch of ``epoch``."""
        generator = random.Random(f"{self.seed}/{epoch}")
        order = list(range(len(self.lengths)))
        generator.shuffle(order)
        if self.buckets:
            window = self.batch_size * _WINDOW_BATCHES
            order = [
                index
                for start in range(0, len(order), window)
                for index in sorted(order[start : start + window], key=lambda i: self.lengths[i])
            ]
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        short = [batches.pop()] if batches and len(batches[-1]) < self.batch_size else []
        if self.buckets:
            generator.shuffle(batches)
        return batches + short


class RankBatches(Sampler[list[int]]):
    """One process's rows of every batch: every ``size``-th, none of the last batch if it has too few.

    Args:
        sampler: gives the batches of all processes together.
        rank, size: which process of how many.
    """

    def __init__(self, sampler: BucketSampler, *, rank: int, size: int) -> None:
        # Not under a name that accelerate looks for: it would set the epoch, which a resumed loader does not know.
        self._whole = sampler
        self._rank = rank
        self._size = size

    def __len__(self) -> int:
        return math.ceil(len(self._whole) / self._whole.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Row indices of this process's part of each batch of the sampler's epoch."""
        return iter([share(batch, self._rank, self._size) for batch in self._whole.batches(self._whole.epoch)])


def share(batch: Sequence[T], rank: int, size: int) -> list[T]:
    """The part of a batch that falls to process ``rank`` of ``size``: rows of like length go to different ones."""
    return list(batch[rank::size])


class Collator:
    """Rows -> right-padded tensors ``input_ids``, ``attention_mask``, ``labels``, each of shape (rows, longest row).

    Padding is masked by each row's length, never by the pad token's id, which is often the end token's: the end of an
    answer must stay in the loss.
    """

    def __init__(self, pad_id: int) -> None:
        self.pad_id = pad_id

    def computed_tokens(self, rows: Sequence[TrainingRow]) -> int:
        """Tokens that the layers run over for a batch of ``rows``, padding included."""
        return max(len(row.ids) for row in rows) * len(rows)

    def __call__(self, rows: Sequence[TrainingRow]) -> dict[str, torch.Tensor]:
        """Pad ``rows`` to the longest; prompts and padding get the label -100."""
        import torch

        longest = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), longest), self.pad_id, dtype=torch.long)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        labels = torch.full((len(rows), longest), IGNORED_LABEL, dtype=torch.long)
        for i, row in enumerate(rows):
            tokens = torch.tensor(row.ids, dtype=torch.long)
            ids[i, : len(tokens)] = tokens
            mask[i, : len(tokens)] = 1
            labels[i, row.prompt_tokens : len(tokens)] = tokens[row.prompt_tokens :]
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class Collate(Protocol):
    """Makes batches of rows."""

    def __call__(self, rows: Sequence[TrainingRow]) -> dict[str, Any]:
        """The batch of ``rows``."""

    def computed_tokens(self, rows: Sequence[TrainingRow]) -> int:
        """Tokens that the layers run over for it."""


class TokenCounter:
    """A collator that counts, and takes the empty part of a batch that was too short for all processes.

    Attributes:
        tokens: tokens collated so far, without padding.
    """

    def __init__(self, collate: Collate) -> None:
        self.collate = collate
        self.tokens = 0

    def __call__(self, rows: Sequence[TrainingRow]) -> dict[str, Any]:
        """The batch of ``rows`` with its answer tokens under ``ANSWERS``; nothing else for no rows."""
        self.tokens += sum(len(row.ids) for row in rows)
        batch = self.collate(rows) if rows else {}
        # Nothing predicts the first token of all.
        return batch | {ANSWERS: sum(max(0, len(row.ids) - max(row.prompt_tokens, 1)) for row in rows)}


def count_tokens(
    sampler: BucketSampler, rows: Sequence[TrainingRow], collate: Collate, batches_done: int, *, processes: int = 1
) -> tuple[int, int]:
    """Tokens of the first ``batches_done`` batches of a run: (of the rows, that the layers ran over).

    Args:
        processes: among which each batch is divided.
    """
    tokens = computed = epoch = 0
    while batches_done > 0:
        for batch in sampler.batches(epoch)[:batches_done]:
            taken = [rows[i] for i in batch]
            tokens += sum(len(row.ids) for row in taken)
            parts = [share(taken, rank, processes) for rank in range(processes)]
            computed += sum(collate.computed_tokens(part) for part in parts if part)
            batches_done -= 1
        epoch += 1
    return tokens, computed
