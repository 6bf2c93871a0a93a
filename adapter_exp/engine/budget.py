"""The store's share of the disk: what lies there, what goes first, and how much more there may be."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from adapter_exp.engine.segments import INDEX, ROWS, remove

# Left free on the disk: checkpoints and records share it, and a run cannot do without them as it can without states.
SPARE_BYTES = 512 << 20
_LOCK = ".lock"


@dataclass
class _Files:
    """The files of one segment, whole or not."""

    paths: list[Path] = field(default_factory=list)
    bytes: int = 0
    used_ns: int = 0  # the stamp: time of change of the index, 0 without one

    @property
    def whole(self) -> bool:
        """Whether rows and index are both there."""
        return {ROWS, INDEX} <= {path.suffix for path in self.paths}


class Budget:
    """Keeps all segments in ``folder`` within ``max_bytes``; the least recently used ones go first.

    Args:
        folder: of the segments of all spaces; made by the first writer.
        max_bytes: of all files together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes

    def writer(self, space_name: str) -> FileLock:
        """The lock of the one process that may write a space's segments; the system drops it with its process.

        Locks stay where they are: a lock file that is removed would let a second writer in beside a waiting one.
        """
        return FileLock(self.folder / f"{space_name}{_LOCK}")

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """While bytes are counted and added, nobody else adds any. Held for moments, never while computing."""
        with FileLock(self.folder / f"store{_LOCK}"):
            yield

    def make_room(self, wanted: int, *, keep: Collection[str] = ()) -> None:
        """Remove what was least recently used until ``wanted`` bytes fit; call it within :meth:`exclusive`.

        Args:
            keep: segments (names without suffix) that must stay.

        Raises:
            OSError: (ENOSPC) if they cannot fit. Nothing whole has been removed then.
        """
        segments = self._scan()
        excess = sum(files.bytes for files in segments.values()) + wanted - self._max_bytes
        if wanted:
            excess = max(excess, wanted + SPARE_BYTES - shutil.disk_usage(self.folder).free)
        if excess <= 0:
            return
        others = {stem: files for stem, files in segments.items() if stem not in keep}
        excess -= sum(self._remove_if_dead(stem, files) for stem, files in others.items() if not files.whole)
        idle = sorted((files for files in others.values() if files.whole), key=lambda files: files.used_ns)
        if excess > sum(files.bytes for files in idle):
            raise OSError(errno.ENOSPC, f"{wanted} bytes more do not fit into {self._max_bytes} or on the disk")
        for files in idle:
            if excess <= 0:
                break
            remove(files.paths)
            excess -= files.bytes

    def trim(self) -> None:
        """Bring a folder that was filled under a higher limit down to this one. Never raises."""
        with contextlib.suppress(OSError):
            if self.folder.is_dir():
                with self.exclusive():
                    self.make_room(0)

    def clear_debris(self, space_name: str) -> None:
        """Remove what killed writers left; only for the process that holds the space's lock."""
        for stem, files in self._scan().items():
            if _space_of(stem) == space_name and not files.whole:
                remove(files.paths)

    def allows(self, wanted: int) -> bool:
        """Whether ``wanted`` bytes could be kept if everything else went."""
        existing = next(path for path in (self.folder, *self.folder.absolute().parents) if path.is_dir())
        try:
            free = shutil.disk_usage(existing).free + sum(files.bytes for files in self._scan().values())
        except OSError:
            return False
        return wanted <= min(self._max_bytes, free - SPARE_BYTES)

    def _remove_if_dead(self, stem: str, files: _Files) -> int:
        """Bytes won by removing a segment without index, unless its writer lives."""
        try:
            with self.writer(_space_of(stem)).acquire(timeout=0):
                remove(files.paths)
                return files.bytes
        except (Timeout, OSError):
            return 0

    def _scan(self) -> dict[str, _Files]:
        segments: dict[str, _Files] = {}
        if not self.folder.is_dir():
            return segments
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.endswith(_LOCK):
                    continue
                # An index that was being written is ".<stem>.index.<random>".
                stem = entry.name.lstrip(".").partition(".")[0]
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat(follow_symlinks=False)
                    files = segments.setdefault(stem, _Files())
                    files.paths.append(Path(entry.path))
                    files.bytes += stat.st_size
                    if entry.name.endswith(INDEX):
                        files.used_ns = stat.st_mtime_ns
        return segments


def _space_of(stem: str) -> str:
    return stem.rpartition("-")[0]
