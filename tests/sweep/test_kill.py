"""kill -9 at random moments; benchmarks/sweep_kill.py does it more often."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_killed_at_random_moments_ends_as_if_left_alone():
    script = Path(__file__).parents[2] / "benchmarks" / "sweep_kill.py"
    finished = subprocess.run(
        [sys.executable, str(script), "--kills", "2", "--seed", "1", "adapter=lora"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert finished.stdout.splitlines()[-1].startswith("2 of 2 end with the same evaluation, losses, predictions")
