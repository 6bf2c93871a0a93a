"""Run this project as a user does, with a clock on its training steps.

    python benchmarks/ours.py CLOCK.json trainer.epochs=1 adapter.r=8       # the arguments of adapter_exp.run
    python benchmarks/ours.py CLOCK.json --profile 2 trainer.epochs=1       # and a profile of 2 steps

The clock is a callback that every Trainer of transformers gets, so nothing here depends on how training is built.
CLOCK.json holds one list for each training: seconds from its beginning to the end of each optimiser step.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import PEERS, Measured, run_process

PLAIN = ("speed=plain", "quantization.keep=4bit")
"""Every saving off, as conf/speed/plain.yaml says."""
FREEZING = "freeze layers"
"""Phase of a run that computes the states of frozen layers, before the steps that use them."""


def run_ours(
    overrides: Sequence[str], folder: Path, *, cache: Path, profile_steps: int = 0
) -> tuple[Measured, list[list[float]]]:
    """``python -m adapter_exp.run`` in a process of its own.

    Args:
        cache: ``cache_dir`` of the run.
        profile_steps: write ``profile.json`` beside the clock.

    Returns:
        ``wall_s`` and ``peak_rss_bytes``; and for each training the seconds at which its steps ended.
    """
    clock = folder / "clock.json"
    options = ["--profile", str(profile_steps)] if profile_steps else []
    command = [sys.executable, Path(__file__).resolve(), clock, *options, *overrides]
    measured = run_process(command, folder, environment={"ADAPTER_EXP_CACHE": str(cache)})
    trainings: list[list[float]] = json.loads(clock.read_text()) if clock.is_file() else []
    return measured, trainings


def records(folder: Path) -> list[dict[str, Any]]:
    """The records below ``folder``, by path."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("record.json"))]


def seconds_of(record: dict[str, Any], *names: str) -> float:
    """Seconds of a run's phases whose names begin with one of ``names``."""
    phases: dict[str, float] = record["resources"]["phases_s"]
    return sum(seconds for name, seconds in phases.items() if name.startswith(names))


def converted_cache(folder: Path, source: Path) -> Path:
    """A cache at ``folder`` that holds the converted model and nothing else, so that a run starts as if set up anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("models", "stamps"):
        if (source / name).is_dir():
            (folder / name).symlink_to((source / name).resolve())
    return folder


def main(clock: Path, arguments: list[str]) -> None:
    """Run the command line with the clock in every Trainer."""
    from transformers import trainer

    sys.path.insert(0, str(PEERS))
    from common import StepClock

    clocks: list[StepClock] = []

    class Counted(StepClock):
        def __init__(self) -> None:
            super().__init__()
            clocks.append(self)

    trainer.DEFAULT_CALLBACKS.append(Counted)
    if arguments[:1] == ["--profile"]:
        from profile_steps import profiler

        trainer.DEFAULT_CALLBACKS.append(profiler(int(arguments[1]), clock.with_name("profile.json")))
        arguments = arguments[2:]
    sys.argv[1:] = arguments
    from adapter_exp.run import main as run

    try:
        run()
    finally:
        clock.write_text(json.dumps([one.step_ends_s for one in clocks]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
