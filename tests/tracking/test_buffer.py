"""Live points never hold up training."""

from __future__ import annotations

import threading
import time

import pytest

from adapter_exp.tracking.buffer import Buffer


def test_many_items_become_few_calls_and_none_is_lost():
    calls: list[list[int]] = []
    with Buffer[int](lambda items: calls.append(list(items)), faults=(OSError,), every_s=0.05) as buffer:
        for item in range(2000):
            buffer.add(item)
        time.sleep(0.2)
        buffer.add(2000)
    assert [item for call in calls for item in call] == list(range(2001))
    assert 1 < len(calls) < 20


def test_a_slow_tracker_does_not_block_adding():
    release = threading.Event()
    buffer = Buffer[int](lambda items: release.wait(20) and None, faults=(OSError,), every_s=0.01)
    buffer.add(0)
    time.sleep(0.1)  # the sender is stuck now
    started = time.perf_counter()
    for item in range(1000):
        buffer.add(item)
    assert time.perf_counter() - started < 1.0
    release.set()
    buffer.close()


def test_a_known_fault_is_kept_and_ends_the_sending():
    attempts: list[int] = []

    def send(items):
        attempts.append(len(items))
        raise ConnectionError("gone")

    buffer = Buffer[int](send, faults=(OSError,), every_s=0.01)
    for item in range(5):
        buffer.add(item)
        time.sleep(0.03)
    buffer.close()
    assert len(attempts) == 1 and isinstance(buffer.error, ConnectionError)


def test_a_bug_is_not_swallowed():
    buffer = Buffer[int](lambda items: 1 // 0, faults=(OSError,), every_s=0.01)
    buffer.add(1)
    with pytest.raises(ZeroDivisionError):
        buffer.close()
