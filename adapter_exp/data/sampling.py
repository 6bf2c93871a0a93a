"""A seeded draw from a stream of unknown length, in memory that does not grow with it."""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

from adapter_exp.data.splits import seeded_hash

T = TypeVar("T")


class Draw(Generic[T]):
    """Keeps the ``size`` items whose keys hash lowest: a uniform draw without replacement over distinct keys.

    The draw does not depend on the order of the stream, equal keys are one item, and a smaller draw is the beginning
    of a larger one.

    Args:
        size: items to keep, None for all.
        seed: another seed draws other items.

    Source: bottom-k sampling, Cohen & Kaplan 2007 ("Summarizing data using bottom-k sketches").
    """

    def __init__(self, size: int | None, *, seed: int) -> None:
        self.size = size
        self.duplicates = 0  # items dropped because one with their key is kept here or in another draw
        self._seed = seed
        self._items: dict[int, T] = {}
        self._worst: list[int] = []  # heap of negated hashes: the first is the one to give up next

    def wants(self, key: str) -> bool:
        """Whether an item of this key would be kept now; a duplicate is counted and not wanted.

        Ask before reading an item in full: most of a long stream is not wanted.
        """
        rank = seeded_hash(self._seed, key)
        if rank in self._items:
            self.duplicates += 1
            return False
        return self.size is None or len(self._items) < self.size or rank < -self._worst[0]

    def add(self, key: str, item: T) -> None:
        """Keep ``item``, which ``wants(key)`` said yes to, and give up the worst one if there are too many."""
        rank = seeded_hash(self._seed, key)
        self._items[rank] = item
        if self.size is None:
            return
        heapq.heappush(self._worst, -rank)
        if len(self._items) > self.size:
            del self._items[-heapq.heappop(self._worst)]

    def leave_out(self, other: Draw[T]) -> None:
        """Give up the items whose keys ``other``, a draw of the same seed, has kept too; they count as duplicates."""
        kept = {rank: item for rank, item in self._items.items() if rank not in other._items}
        self.duplicates += len(self._items) - len(kept)
        self._items = kept

    def items(self) -> list[T]:
        """The kept items, in the order of their hashes."""
        return [item for _, item in sorted(self._items.items(), key=lambda pair: pair[0])]
