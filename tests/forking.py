"""Children of one interpreter that begin together: its imports are paid once, and the start is closer."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from pathlib import Path

Begin = Callable[[], object]
"""Waits until all children are there."""


def at_once(root: Path, count: int, work: Callable[[int, Begin], str]) -> None:
    """Run ``work(number, begin)`` in so many children; what it returns, or its traceback, goes to ``answer-NUMBER``."""
    gate, opener = os.pipe()
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            os.close(opener)
            try:
                answer = work(number, lambda: os.read(gate, 1))  # ends for all of them at once
            except BaseException:  # noqa: BLE001 - the test reads it in the answer
                answer = traceback.format_exc()
            (root / f"answer-{number}").write_text(answer)
            os._exit(0)
        children.append(child)
    os.close(opener)
    for child in children:
        os.waitpid(child, 0)
