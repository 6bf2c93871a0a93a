"""Sends live points in batches from a thread of its own, so that training never waits for a tracker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Buffer(Generic[T]):
    """Collects items and hands them to ``send`` every ``every_s`` seconds, and once more when closed.

    The first error of ``faults`` ends the sending: it is kept in ``error``, and later items are dropped (the record
    has them). Any other exception is a bug and is raised by ``close``.
    """

    def __init__(
        self, send: Callable[[Sequence[T]], None], *, faults: tuple[type[Exception], ...], every_s: float = 3.0
    ) -> None:
        self._send = send
        self._faults = faults
        self._every_s = every_s
        self._items: list[T] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def add(self, item: T) -> None:
        """Queue one item; returns at once."""
        with self._lock:
            self._items.append(item)

    def close(self) -> None:
        """Send what is left and stop the thread.

        Raises:
            Exception: whatever ``send`` raised that is not one of ``faults``.
        """
        self._closed.set()
        self._thread.join()
        if self.error is not None and not isinstance(self.error, self._faults):
            raise self.error

    def __enter__(self) -> Buffer[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        last = False
        while not last:
            last = self._closed.wait(self._every_s)
            with self._lock:
                items, self._items = self._items, []
            if not items or self.error is not None:
                continue
            try:
                self._send(items)
            except Exception as error:  # noqa: BLE001 - carried over to close(), which raises what is not a known fault
                self.error = error
