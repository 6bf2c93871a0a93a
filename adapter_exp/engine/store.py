"""States of the frozen layers, kept on disk: computed once, read by all jobs and processes that need them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from adapter_exp.engine.budget import Budget
from adapter_exp.engine.segments import INDEX, Segment, SegmentWriter, Space, check_digest, padded
from adapter_exp.errors import first_line

# Rows are brought to the disk in portions of about this size, so few of them are in memory at a time.
PORTION_BYTES = 32 << 20
# A new segment begins after about this size: it is what a killed writer loses at most, and what is removed at a time.
SEGMENT_BYTES = 256 << 20

Compute = Callable[[list[int]], Iterable[tuple[int, torch.Tensor]]]


class StateStore:
    """Rows of constant tensors by key, in memory-mapped files that any number of processes share.

    It knows nothing of models. Its files can be damaged or removed at any time, also while others use them: the rows
    concerned are computed again. A row is verified the first time that a store object reads it.

    Args:
        folder: of the files; made when something is written.
        max_bytes: limit on all files together. Beyond it the least recently used segments go.
        on_unkept: told in one line why rows that were computed could not be kept.
    """

    def __init__(self, folder: Path, *, max_bytes: int, on_unkept: Callable[[str], None] = lambda reason: None) -> None:
        self._budget = Budget(folder, max_bytes)
        self._folder = folder
        self._on_unkept = on_unkept
        self._segments: dict[Space, dict[str, Segment]] = {}
        self._budget.trim()

    def rows(
        self, space: str, keys: Sequence[str], *, width: int, dtype: torch.dtype, compute: Compute
    ) -> list[torch.Tensor]:
        """One CPU tensor (tokens_i, width) for each key, memory-mapped; what is absent or damaged is computed.

        Ask for many rows at once: each call that computes publishes a segment of its own. One process at a time
        computes for a space, others wait for it and read what it published. What does not fit within the limit or
        on the disk is returned from memory, and nothing of it is kept; ask :meth:`room_for` before.

        Args:
            space: hex digest of everything but the row that decides the numbers.
            keys: hex digests of the rows; a key may occur several times.
            compute: given indices into ``keys``, yields each with its tensor (tokens_i, width), in any order and on
                any device. It may use other spaces of the store, not this one.

        Raises:
            ValueError: if space or a key is not a hex digest, or ``compute`` yields something else than asked for.
            Anything that ``compute`` raises; whole segments that were written before stay.
        """
        where = Space(space, width, dtype)
        first: dict[str, int] = {}
        for index, key in enumerate(keys):
            check_digest("key", key)
            first.setdefault(key, index)
        found, used = self._read(where, first)
        if len(found) < len(first):
            missing = {key: index for key, index in first.items() if key not in found}
            found |= self._make(where, missing, used, compute)
        return [found[key] for key in keys]

    def has(self, space: str, keys: Collection[str], *, width: int, dtype: torch.dtype) -> bool:
        """Whether all rows are there; their checksums are not verified."""
        missing = set(keys)
        for segment in self._current(Space(space, width, dtype)).values():
            missing -= segment.holds(missing)
        return not missing

    def room_for(self, bytes_wanted: int) -> bool:
        """Whether tensors of so many bytes could be kept at all, if all else that is kept had to go."""
        return self._budget.allows(bytes_wanted)

    def _read(self, where: Space, keys: Collection[str]) -> tuple[dict[str, torch.Tensor], set[str]]:
        """What is there of ``keys``, and the names of the segments that it lies in, which now count as used."""
        found: dict[str, torch.Tensor] = {}
        used: set[str] = set()
        missing = set(keys)
        for stem, segment in self._current(where).items():
            if rows := segment.read(missing):
                found |= rows
                missing -= rows.keys()
                used.add(stem)
                now = time.time_ns()
                with contextlib.suppress(OSError):  # removed meanwhile, or a folder that is read-only
                    os.utime(self._folder / f"{stem}{INDEX}", ns=(now, now))
        return found, used

    def _current(self, where: Space) -> dict[str, Segment]:
        """The segments that are published now."""
        names = set()
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            names = {entry.name for entry in entries if entry.name.startswith(f"{where.name}-")}
        stems = sorted(name.removesuffix(INDEX) for name in names if name.endswith(INDEX))
        known = self._segments.get(where, {})
        current = {}
        for stem in stems:
            with contextlib.suppress(OSError):  # removed between the listing and here
                current[stem] = known.get(stem) or Segment.load(where, self._folder / f"{stem}{INDEX}")
        self._segments[where] = current
        return current

    def _make(self, where: Space, missing: dict[str, int], used: set[str], compute: Compute) -> dict[str, torch.Tensor]:
        """The rows of ``missing`` (key to index): by another process while this one waited, or computed and kept."""
        with self._alone(where) as fault:
            made, more = self._read(where, missing)
            due = {index: key for key, index in missing.items() if key not in made}
            if not due:
                return made
            with _Keeper(where, self._budget, used | more, fault) as keeper:
                for key, row in _checked(where, due, compute):
                    keeper.add(key, row)
                made |= keeper.finish()
        if keeper.fault is not None:
            self._on_unkept(keeper.fault)
        # Only if someone removed the file of rows between writing and mapping it.
        lost = {index: key for index, key in due.items() if key not in made}
        return made | dict(_checked(where, lost, compute)) if lost else made

    @contextmanager
    def _alone(self, where: Space) -> Iterator[str | None]:
        """Be the only writer of a space, or not a writer at all; yields why not."""
        with contextlib.ExitStack() as stack:
            fault = None
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(self._budget.writer(where.name))
                self._budget.clear_debris(where.name)
            except OSError as error:
                fault = _reason(error)
            yield fault


class _Keeper:
    """Takes rows as they come: to the disk while all goes well, into memory from the first fault on.

    Args:
        needed: names of segments that must not be removed for these rows.
        fault: why nothing can be written, known beforehand.
    """

    def __init__(self, where: Space, budget: Budget, needed: set[str], fault: str | None) -> None:
        self.fault = fault
        self._space = where
        self._budget = budget
        self._needed = needed
        self._waiting: dict[str, torch.Tensor] = {}
        self._waiting_bytes = 0
        self._open: SegmentWriter | None = None
        self._published: list[SegmentWriter] = []
        self._mapped: dict[str, torch.Tensor] = {}

    def __enter__(self) -> _Keeper:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.discard()

    def add(self, key: str, row: torch.Tensor) -> None:
        """Take one row (tokens, width), contiguous, on the CPU and nobody else's."""
        self._waiting[key] = row
        self._waiting_bytes += padded(row.nbytes)
        if self._waiting_bytes >= PORTION_BYTES:
            self._attempt(self._write)

    def finish(self) -> dict[str, torch.Tensor]:
        """All rows by key."""
        self._attempt(self._write)
        self._attempt(self._publish)
        return self._mapped | self._waiting

    def _attempt(self, step: Callable[[], None]) -> None:
        if self.fault is not None:
            return
        try:
            step()
        except OSError as error:
            self._give_up(_reason(error))

    def _write(self) -> None:
        if not self._waiting:
            return
        with self._budget.exclusive():
            if self._open is None:
                self._open = SegmentWriter(self._budget.folder, self._space)
                self._needed.add(self._open.stem)
            self._budget.make_room(self._waiting_bytes, keep=self._needed)
            self._open.write(self._waiting)
        self._waiting, self._waiting_bytes = {}, 0
        if self._open.size >= SEGMENT_BYTES:
            self._publish()

    def _publish(self) -> None:
        if self._open is None:
            return
        mapped, index = self._open.finish()
        with self._budget.exclusive():
            self._budget.make_room(len(index), keep=self._needed)
            self._open.publish(index)
        self._mapped |= mapped
        self._published.append(self._open)
        self._open = None

    def _give_up(self, fault: str) -> None:
        """Take everything into memory and leave nothing on the disk, where a part of a set is of little use."""
        self.fault = fault
        unfinished = [] if self._open is None else [self._open]
        for segment in unfinished:
            self._mapped |= segment.written()
        with torch.inference_mode(False):
            self._mapped = {key: row.clone() for key, row in self._mapped.items()}
        for segment in self._published + unfinished:
            segment.discard()
        self._open = None


def _checked(where: Space, due: dict[int, str], compute: Compute) -> Iterator[tuple[str, torch.Tensor]]:
    """What ``compute`` yields, by key; each row a contiguous CPU tensor that no caller can change later."""
    waiting = dict(due)
    for index, row in compute(list(due)):
        if index not in waiting:
            raise ValueError(f"compute yielded row {index}, which was not asked for or came twice")
        if row.dtype != where.dtype or row.dim() != 2 or row.shape[1] != where.width:
            raise ValueError(
                f"compute yielded {tuple(row.shape)} of {row.dtype} for row {index}; "
                f"(tokens, {where.width}) of {where.dtype} was asked for"
            )
        with torch.inference_mode(False):  # `compute` may be in that mode; training could not use its tensors
            copy = row.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        yield waiting.pop(index), copy
    if waiting:
        raise ValueError(f"compute did not yield rows {sorted(waiting)[:5]} that it was asked for")


def _reason(error: OSError) -> str:
    return first_line("frozen states are not kept", error.strerror or str(error))
