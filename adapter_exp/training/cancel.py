"""Ctrl-C and SIGTERM: at once outside training, after the current step inside it."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from adapter_exp.errors import Cancelled


class Cancellation:
    """Whether the user or the system asked the run to stop.

    Args:
        echo_s: a signal that comes so soon after another is the same request: a launcher passes Ctrl-C on to processes
            that the terminal has sent it to already.

    Attributes:
        requested: a signal came.
    """

    def __init__(self, *, echo_s: float = 0.0) -> None:
        self.requested = False
        self._echo_s = echo_s
        self._heard = -math.inf
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
        now = time.monotonic()
        if now - self._heard < self._echo_s:
            return
        self._heard = now
        again, self.requested = self.requested, True
        if again or not self._deferred:
            raise Cancelled(signal.Signals(number).name)
