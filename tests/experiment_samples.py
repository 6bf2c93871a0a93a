"""A whole experiment in seconds: the tiny model, a handful of items, everything below a temporary folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from adapter_exp import run as entrypoint
from adapter_exp.config import Config, parse_config

SMALL = (
    "model=tiny",
    "model.dtype=float32",
    "task.max_train=8",
    "task.max_validation=2",
    "task.max_eval=4",
    "task.max_new_tokens=4",
    "eval.tasks.nerus.max_eval=4",
    "eval.tasks.nerus.max_new_tokens=4",
    "eval.tasks.terra.max_eval=4",
    "eval.tasks.terra.max_new_tokens=4",
    "eval.resamples=100",
    "trainer.epochs=1",
    "trainer.batch_size=4",
    "adapter=lora",
    "tracking=none",
    "device=cpu",
)


def overrides(root: Path, *more: str) -> list[str]:
    """The small experiment with its cache and outputs below ``root``; later values win."""
    return [*SMALL, f"cache_dir={root / 'cache'}", f"output_dir={root / 'outputs'}", *more]


def config(root: Path, *more: str) -> Config:
    """The composed and checked configuration, as the command line makes it."""
    with initialize_config_dir(str(entrypoint.conf_folder()), version_base="1.3"):
        values: Any = OmegaConf.to_container(compose("config", overrides(root, *more)), resolve=True)
    return parse_config(values)


def start(root: Path, *more: str, flags: Sequence[str] = ()) -> subprocess.Popen[str]:
    """The same experiment in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"}
    return subprocess.Popen(
        [sys.executable, "-m", "adapter_exp.run", *flags, *overrides(root, *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[1],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def record(run_dir: Path) -> dict[str, Any]:
    """The record as it stands in the folder."""
    data: dict[str, Any] = json.loads((run_dir / "record.json").read_text(encoding="utf-8"))
    return data
