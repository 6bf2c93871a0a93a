"""Segment files of the store: rows behind one another, and an index that makes all of them visible at once."""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import torch

from adapter_exp.files import flush, write_text_atomic

ROWS = ".rows"
INDEX = ".index"
# Rows begin at multiples of a cache line, so that any element type may be viewed in place.
ALIGNMENT = 64
_FORMAT = 1
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class Space:
    """What the rows of one space are. All of it is in the names of their files and in the checksum of each row.

    Args:
        digest: hex digest of everything that decides the numbers.
        width: values of one token.
        dtype: of the values.

    Raises:
        ValueError: if ``digest`` is not a hex digest or ``width`` is below 1.
    """

    digest: str
    width: int
    dtype: torch.dtype

    def __post_init__(self) -> None:
        check_digest("space", self.digest)
        if self.width < 1:
            raise ValueError(f"width: {self.width} is below 1")

    @property
    def name(self) -> str:
        """Beginning of the names of this space's files, up to the last dash."""
        return f"{self.digest}-{str(self.dtype).removeprefix('torch.')}-{self.width}-v{_FORMAT}"

    def nbytes(self, tokens: int) -> int:
        """Bytes of a row of ``tokens`` tokens, without padding."""
        return tokens * self.width * self.dtype.itemsize

    def checksum(self, key: str, row: torch.Tensor) -> int:
        """CRC-32 of a row (tokens, width), its key, its length and its space.

        32 bits are enough: they guard against accidents, not against an adversary, who could write to the user's
        folder anyway. Every run of up to 32 damaged bits is found, other damage is missed once in four thousand
        million times. The key is part of it, so an index line damaged into another valid line is found as well.
        """
        return zlib.crc32(row.view(torch.uint8).numpy().data, zlib.crc32(f"{self.name} {key} {len(row)}".encode()))


def check_digest(what: str, text: str) -> None:
    """Raises ValueError unless ``text`` is made of hex digits: it becomes a file name or a field of a line."""
    if not _HEX.fullmatch(text):
        raise ValueError(f"{what}: {text!r} is not a hex digest")


def padded(nbytes: int) -> int:
    """``nbytes`` up to the next multiple of the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class Place(NamedTuple):
    """Where a row lies in its segment: first byte, number of tokens, checksum."""

    offset: int
    tokens: int
    checksum: int


class Segment:
    """A segment that this process reads. It remembers which rows it has verified, and forgets damaged ones."""

    def __init__(self, space: Space, rows_path: Path, places: dict[str, Place], *, verified: bool = False) -> None:
        self._space = space
        self._rows_path = rows_path
        self._places = places
        self._verified = set(places) if verified else set()

    @classmethod
    def load(cls, space: Space, index_path: Path) -> Segment:
        """The segment of an index; lines that cannot be read are left out.

        Raises:
            OSError: if there is no such index (any more).
        """
        places = {}
        for line in index_path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                key, *numbers = line.split(" ")
                offset, tokens, checksum = map(int, numbers)
                if offset >= 0 and tokens >= 0:
                    places[key] = Place(offset, tokens, checksum)
        return cls(space, index_path.with_suffix(ROWS), places)

    def holds(self, keys: Collection[str]) -> set[str]:
        """Which of ``keys`` lie within the file; their bytes are not read."""
        try:
            size = self._rows_path.stat().st_size
        except OSError:
            return set()
        return {key for key in self._places.keys() & set(keys) if self._end(self._places[key]) <= size}

    def read(self, keys: Collection[str]) -> dict[str, torch.Tensor]:
        """Those of ``keys`` that are here and whole: (tokens, width) each, mapped.

        The map is private to this call: what a caller changes in place neither reaches the file nor other callers.
        It outlives the file's removal. It takes no file descriptor.
        """
        wanted = self._places.keys() & set(keys)
        found: dict[str, torch.Tensor] = {}
        # Whatever mode the caller is in: training saves these rows for its backward pass.
        with torch.inference_mode(False):
            mapped = _map(self._rows_path) if wanted else None
            if mapped is None:
                return found
            for key in wanted:
                row = self._row(mapped, key)
                if row is None:
                    self._places.pop(key, None)
                else:
                    found[key] = row
        return found

    def _end(self, place: Place) -> int:
        return place.offset + self._space.nbytes(place.tokens)

    def _row(self, mapped: torch.Tensor, key: str) -> torch.Tensor | None:
        place = self._places[key]
        end = self._end(place)
        if place.offset % ALIGNMENT or end > len(mapped):
            return None
        row = mapped[place.offset : end].view(self._space.dtype).view(place.tokens, self._space.width)
        if key not in self._verified:
            if self._space.checksum(key, row) != place.checksum:
                return None
            self._verified.add(key)
        return row


def _map(path: Path) -> torch.Tensor | None:
    """All bytes of a file, mapped copy-on-write; None where the file has gone or cannot be mapped."""
    with contextlib.suppress(OSError, RuntimeError):
        size = path.stat().st_size
        if not size:  # nothing but rows without tokens; an empty file cannot be mapped
            return torch.empty(0, dtype=torch.uint8)
        return torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    return None


class SegmentWriter:
    """A segment that is being written: nobody sees its rows before :meth:`publish`.

    Raises (all methods):
        OSError: if the disk is full or the folder cannot be written; the segment is then good for `discard` only.
    """

    def __init__(self, folder: Path, space: Space) -> None:
        self.stem = f"{space.name}-{uuid4().hex[:16]}"
        self._space = space
        self._index_path = folder / f"{self.stem}{INDEX}"
        self._rows_path = folder / f"{self.stem}{ROWS}"
        self._places: dict[str, Place] = {}
        self._file = self._rows_path.open("xb")
        self.size = 0

    def write(self, rows: Mapping[str, torch.Tensor]) -> None:
        """Append contiguous CPU rows (tokens, width) by key; they count as written once all of them are."""
        places = {}
        end = self.size
        for key, row in rows.items():
            places[key] = Place(end, len(row), self._space.checksum(key, row))
            nbytes = self._space.nbytes(len(row))
            self._file.write(row.view(torch.uint8).numpy().data)
            self._file.write(bytes(padded(nbytes) - nbytes))
            end += padded(nbytes)
        self._file.flush()
        self._places |= places
        self.size = end

    def finish(self) -> tuple[dict[str, torch.Tensor], str]:
        """Bring the rows to the disk; returns them mapped by key, and the index that :meth:`publish` wants.

        They are mapped before others can see, and therefore remove, the segment.
        """
        self._file.close()
        flush(self._rows_path)
        lines = (f"{key} {place.offset} {place.tokens} {place.checksum}\n" for key, place in self._places.items())
        return self.written(), "".join(lines)

    def written(self) -> dict[str, torch.Tensor]:
        """The rows written so far by key, mapped; fewer where the file has gone."""
        return Segment(self._space, self._rows_path, dict(self._places), verified=True).read(self._places)

    def publish(self, index: str) -> None:
        """Make all rows visible at once."""
        write_text_atomic(self._index_path, index)
        flush(self._index_path.parent)

    def discard(self) -> None:
        """Remove what was written, published or not. Never raises."""
        with contextlib.suppress(OSError):
            self._file.close()  # writes what is still buffered, and fails once more on a full disk
        remove((self._index_path, self._rows_path))


def remove(paths: Iterable[Path]) -> None:
    """Remove a segment's files, the index first, so that nobody finds rows that are about to go. Never raises."""
    for path in sorted(paths, key=lambda path: path.suffix != INDEX):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
