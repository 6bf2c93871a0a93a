"""Ctrl-C and SIGTERM: at once outside training, after the current step inside it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from adapter_exp.errors import Cancelled


class Cancellation:
    """Whether the user or the system asked the run to stop.

    Attributes:
        requested: a signal came.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False

    @contextmanager
    def listening(self) -> Iterator[Cancellation]:
        """Handle SIGINT and SIGTERM in this block; only the main thread may, elsewhere nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        former = {number: signal.signal(number, self._handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the block notice ``requested`` by itself (to save first); a second signal still ends it at once."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again, self.requested = self.requested, True
        if again or not self._deferred:
            raise Cancelled(signal.Signals(number).name)
