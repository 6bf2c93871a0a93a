"""Costs: phases add up, the peak does not fall."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapter_exp.tracking.resources import Phases


def test_phases_add_up_and_are_kept_when_one_fails():
    phases = Phases()
    for _ in range(2):
        with phases.phase("evaluate"):
            time.sleep(0.02)
    with pytest.raises(KeyError), phases.phase("train"):
        raise KeyError
    measured = phases.measured()
    assert 0.04 <= measured["phases_s"]["evaluate"] < 0.5 and "train" in measured["phases_s"]
    assert measured["wall_s"] >= sum(measured["phases_s"].values())


def test_the_peak_remembers_memory_that_was_given_back():
    script = (
        "from adapter_exp.tracking.resources import peak_rss_bytes\n"
        "before = peak_rss_bytes(); block = bytearray(b'x') * 150_000_000; del block; print(before, peak_rss_bytes())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert 10_000_000 < before < 150_000_000 <= after < 400_000_000
