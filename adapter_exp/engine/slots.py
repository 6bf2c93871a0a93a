"""Keys and values of the prompts that are being answered: what all of them share once, each row's own in a slot."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Slots:
    """Room for ``rows`` answers at a time, written in place. The slots in use are always the first ones.

    Args:
        capacity: own tokens of one row, of its prompt and its answer, that fit.

    Attributes:
        prefix: tokens at the beginning of all rows, whose keys and values are held once.
        lengths: own tokens of each row in use.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        self.rows = rows
        self.capacity = capacity
        self.prefix = 0
        self.lengths: list[int] = []
        self._shared: dict[int, tuple[Tensor, Tensor]] = {}
        self._own: dict[int, tuple[Tensor, Tensor]] = {}

    def hold(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Take the shared prefix's keys and values of one layer, (key heads, tokens, head width)."""
        self._shared[layer] = keys.contiguous(), values.contiguous()

    def shared(self, layer: int) -> tuple[Tensor, Tensor]:
        """What ``hold`` took."""
        return self._shared[layer]

    def places(self, slots: Sequence[int], columns: Sequence[int], key_heads: int, device: torch.device) -> Tensor:
        """Where ``write`` puts tokens that are the ``columns``-th own ones of ``slots``, (tokens x key heads,)."""
        first = torch.tensor(slots) * (key_heads * self.capacity) + torch.tensor(columns)
        heads = torch.arange(key_heads) * self.capacity
        return (first[:, None] + heads).flatten().to(device, non_blocking=True)

    def write(self, layer: int, places: Tensor, keys: Tensor, values: Tensor) -> None:
        """Put keys and values (key heads, tokens, head width) of one layer at ``places``."""
        heads, _, width = keys.shape
        if layer not in self._own:
            # Zeros, not whatever lies there: a masked NaN would still be a NaN.
            room = self.rows, heads, self.capacity, width
            self._own[layer] = keys.new_zeros(room), values.new_zeros(room)
        for store, new in zip(self._own[layer], (keys, values), strict=True):
            store.view(-1, width).index_copy_(0, places, new.transpose(0, 1).reshape(-1, width))

    def own(self, layer: int, longest: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the slots in use, (rows x key heads, longest, head width); no copies."""
        keys, values = (store[: len(self.lengths), :, :longest].flatten(0, 1) for store in self._own[layer])
        return keys, values

    def free(self, slots: Sequence[int]) -> list[int]:
        """Take rows out; the last ones move into the gaps.

        Returns:
            for each slot that is still in use, the slot that its row was in.
        """
        rows = list(range(len(self.lengths)))
        for slot in sorted(slots, reverse=True):
            last = rows.pop()
            if slot < len(rows):
                rows[slot] = last
        for slot, former in enumerate(rows):
            if slot != former:
                length = self.lengths[former]
                for stores in self._own.values():
                    for store in stores:
                        store[slot, :, :length] = store[former, :, :length]
        self.lengths = [self.lengths[former] for former in rows]
        return rows
