"""Rows whose right numbers follow from their keys, and a source of them that remembers what it was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from adapter_exp.engine.store import StateStore

SPACE = "a1"
WIDTH = 8
MANY = 1 << 40


def keys_of(numbers: Iterable[int]) -> list[str]:
    return [f"{number:04x}" for number in numbers]


def right_row(key: str, *, tokens: int = 4, width: int = WIDTH, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(int(key, 16))
    return torch.randn(tokens, width, generator=generator).to(dtype)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
    )


class Source:
    """Asks a store for rows and computes what it lacks; `computed` are the keys of the last call."""

    def __init__(self, *, tokens: int = 4, width: int = WIDTH, dtype: torch.dtype = torch.float32) -> None:
        self.computed: list[str] = []
        self._shape = {"tokens": tokens, "width": width, "dtype": dtype}

    def take(self, store: StateStore, numbers: Iterable[int], space: str = SPACE) -> list[torch.Tensor]:
        """The rows of these numbers, checked against the right ones."""
        keys = keys_of(numbers)
        self.computed = []

        def compute(indices: list[int]):
            for index in reversed(indices):
                self.computed.append(keys[index])
                yield index, right_row(keys[index], **self._shape)

        shape = {"width": self._shape["width"], "dtype": self._shape["dtype"]}
        rows = store.rows(space, keys, **shape, compute=compute)
        assert len(rows) == len(keys)
        assert all(same_bits(row, right_row(key, **self._shape)) for key, row in zip(keys, rows, strict=True))
        return rows


def files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"*{suffix}"))


def bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0


def needs(count: int, *, tokens: int = 4) -> int:
    """More bytes than one segment of so many rows takes, less than with a row more."""
    return count * (tokens * WIDTH * 4 + 40)


def names(keys: Sequence[str]) -> set[int]:
    return {int(key, 16) for key in keys}
