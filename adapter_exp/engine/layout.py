"""Rows of a batch as one run of tokens: a shared prefix once, then each row's own tokens, without padding.

    [ prefix | row 0 | row 1 | ... | branch 0 | branch 1 | ... ]

Every row continues the prefix, every branch continues one row (the labels of a choice after their context). Linear
layers, norms and activations see the run as it is; only attention needs to know who may see whom, and lays the tokens
out as padded rectangles for the time of one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

_NEVER = 2**30  # the position of a padded key: later than every query


@dataclass
class Group:
    """Runs of tokens that attend together as one padded rectangle.

    Attributes:
        spread: flat index of each place of the rectangle, (runs x longest,); padding repeats a run's first token.
        gather: place in the rectangle of each token of the runs, (tokens,).
        shape: (runs, longest).
        shared: tokens at the start of the batch that all runs see.
        context: flat index of what each run sees between those and itself, (runs, longest context); None: nothing.
        queries, keys: positions in the sequence, (runs, longest) and (runs, shared + context + longest).
    """

    spread: Tensor
    gather: Tensor
    shape: tuple[int, int]
    shared: int
    context: Tensor | None
    queries: Tensor
    keys: Tensor
    _masks: dict[tuple[Any, ...], Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, repeats: int, dtype: torch.dtype) -> Tensor:
        """Additive attention mask (runs, 1, repeats x longest, keys): minus infinity where a query may not look.

        Args:
            window: a query sees the last so many positions, its own among them; None: all of them.
            repeats: query heads per key head, laid out one after the other.
        """
        wanted = window, repeats, dtype
        if wanted not in self._masks:
            distance = self.queries[:, :, None] - self.keys[:, None, :]
            seen = (distance >= 0) if window is None else (distance >= 0) & (distance < window)
            mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, float("-inf"))
            self._masks[wanted] = mask.repeat(1, repeats, 1)[:, None]
        return self._masks[wanted]

    def moved(self, move: Callable[[Tensor], Tensor]) -> Group:
        """The same group with what ``move`` makes of each tensor."""
        return Group(
            spread=move(self.spread),
            gather=move(self.gather),
            shape=self.shape,
            shared=self.shared,
            context=None if self.context is None else move(self.context),
            queries=move(self.queries),
            keys=move(self.keys),
        )


class Layout:
    """Where the tokens of a batch lie and who sees whom.

    Args:
        prefix: tokens that all rows share, 0 for none.
        rows: each row's own tokens, at least one.
        branches: (row, tokens) of each branch.

    Attributes:
        positions: position in its sequence of every token, (tokens,).
    """

    def __init__(self, rows: Sequence[int], *, prefix: int = 0, branches: Sequence[tuple[int, int]] = ()) -> None:
        self.prefix = prefix
        self.rows = tuple(rows)
        self.branches = tuple(branches)
        self.row_starts = _starts(self.rows, prefix)
        ends = prefix + sum(self.rows)
        self.branch_starts = _starts([tokens for _, tokens in self.branches], ends)
        self.tokens = ends + sum(tokens for _, tokens in self.branches)
        offsets = [0] * (prefix > 0) + [prefix] * len(self.rows)
        offsets += [prefix + self.rows[row] for row, _ in self.branches]
        lengths = [*([prefix] if prefix else []), *self.rows, *(tokens for _, tokens in self.branches)]
        self.positions = torch.cat([torch.arange(o, o + n) for o, n in zip(offsets, lengths, strict=True)])
        self.groups = self._groups()

    def _groups(self) -> list[Group]:
        groups = [_group([0], [self.prefix], self.positions)] if self.prefix else []
        groups.append(_group(self.row_starts, self.rows, self.positions, shared=self.prefix))
        if self.branches:
            lengths = [tokens for _, tokens in self.branches]
            context = [(self.row_starts[row], self.rows[row]) for row, _ in self.branches]
            groups.append(_group(self.branch_starts, lengths, self.positions, shared=self.prefix, context=context))
        return groups

    @cached_property
    def last_of_rows(self) -> Tensor:
        """Flat index of each row's last token, (rows,)."""
        ends = torch.tensor(self.row_starts) + torch.tensor(self.rows) - 1
        return ends.to(self.positions.device)

    def to(self, device: torch.device, non_blocking: bool = False) -> Layout:
        """The same layout with its tensors on ``device``."""
        return self._moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Layout:
        """The same layout in memory that a GPU copies from while the program goes on; a DataLoader asks for it."""
        return self._moved(lambda tensor: tensor.pin_memory())

    def _moved(self, move: Callable[[Tensor], Tensor]) -> Layout:
        moved = object.__new__(Layout)
        moved.__dict__ |= {name: value for name, value in vars(self).items() if name != "last_of_rows"}
        moved.positions = move(self.positions)
        moved.groups = [group.moved(move) for group in self.groups]
        return moved


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all of ``rows`` begin with; 0 without rows."""
    if not rows:
        return 0
    low, high = min(map(tuple, rows)), max(map(tuple, rows))  # in dictionary order these two differ first
    return next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))


def prefix_before_own(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all of ``rows`` begin with, but the last one of each."""
    return min(common_prefix(rows), *(len(row) - 1 for row in rows))


def in_order(rows: Sequence[Sequence[int]], prefix: int) -> list[int]:
    """Tokens of ``rows`` as a layout has them: the first ``prefix`` ones, which all share, then each row's own."""
    return [*rows[0][:prefix], *(token for row in rows for token in row[prefix:])]


def _starts(lengths: Sequence[int], first: int) -> list[int]:
    starts = []
    for length in lengths:
        starts.append(first)
        first += length
    return starts


def _group(
    starts: Sequence[int],
    lengths: Sequence[int],
    positions: Tensor,
    *,
    shared: int = 0,
    context: Sequence[tuple[int, int]] = (),
) -> Group:
    """The rectangle of the runs at ``starts``; ``context`` is (start, tokens) of what each run continues."""
    first, length = torch.tensor(starts), torch.tensor(lengths)
    places, real = _rectangle(first, length)
    queries = positions[places]
    keys = [torch.arange(shared).expand(len(starts), -1), queries.masked_fill(~real, _NEVER)]
    before = None
    if context:
        before, known = _rectangle(*torch.tensor(context).T)
        keys.insert(1, positions[before].masked_fill(~known, _NEVER))
    return Group(
        spread=places.flatten(),
        gather=real.flatten().nonzero()[:, 0],
        shape=(places.shape[0], places.shape[1]),
        shared=shared,
        context=before,
        queries=queries,
        keys=torch.cat(keys, dim=1),
    )


def _rectangle(starts: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Flat index of each place (runs, longest), and which places are no padding."""
    columns = torch.arange(int(lengths.max()))
    real = columns < lengths[:, None]
    return starts[:, None] + torch.where(real, columns, 0), real
