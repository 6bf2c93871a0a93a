"""Costs: phases add up, the peak falls only when it is reset."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapter_exp.tracking.resources import CLEAR_FILE, Phases, peak_rss_bytes, reset_peaks


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


def _printed(script: str) -> list[int]:
    """Numbers that a script prints in a process of its own, whose peak no other test has raised."""
    head = "from adapter_exp.tracking.resources import peak_rss_bytes, reset_peaks\n"
    done = subprocess.run(
        [sys.executable, "-c", head + script], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


def test_the_peak_remembers_memory_that_was_given_back():
    before, after = _printed(
        "before = peak_rss_bytes(); block = bytearray(b'x') * 150_000_000; del block; print(before, peak_rss_bytes())"
    )
    assert 10_000_000 < before < 150_000_000 <= after < 400_000_000


@pytest.mark.skipif(not CLEAR_FILE.exists(), reason="only Linux keeps a peak that can be reset")
def test_a_reset_peak_forgets_what_earlier_runs_took_but_not_what_is_still_there():
    first, second, resident, third = _printed(
        "kept = bytearray(b'x') * 60_000_000\n"
        "block = bytearray(b'x') * 200_000_000; del block; print(peak_rss_bytes())\n"
        "assert reset_peaks(); resident = peak_rss_bytes()\n"
        "block = bytearray(b'x') * 90_000_000; del block; print(peak_rss_bytes(), resident)\n"
        "del kept; assert reset_peaks(); print(peak_rss_bytes())\n"
    )
    assert first > 260_000_000
    assert 60_000_000 < resident < 150_000_000 <= second < first - 100_000_000
    assert third < resident - 50_000_000


@pytest.mark.skipif(not CLEAR_FILE.exists(), reason="only Linux keeps a peak that can be reset")
def test_many_small_blocks_are_given_back_before_the_peak_begins_anew():
    before, after = _printed(
        "reset_peaks(); print(peak_rss_bytes())\n"
        "rows = [bytes(bytearray(1000)) for _ in range(150_000)]; kept = rows[::5000]; del rows\n"
        "reset_peaks(); print(peak_rss_bytes())\n"
    )
    assert after < before + 40_000_000


def test_a_kernel_that_refuses_keeps_the_old_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("adapter_exp.tracking.resources.CLEAR_FILE", tmp_path)  # a folder cannot be written
    assert reset_peaks() is False and peak_rss_bytes() > 0
