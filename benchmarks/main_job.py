"""The main job as `make run` starts it, against the same commit with every saving off.

    python benchmarks/main_job.py
    python benchmarks/main_job.py adapter=mlp adapter.hidden_dim=64 adapter.layers=last:8    # any overrides for both
    python benchmarks/main_job.py --quick                                                    # does it work?

Both begin with the converted model on disk and nothing else, in a process of their own; the time is from start to exit.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from measure import Case, Column, Measured, arguments, cache_folder, interleaved, parsed, report
from ours import FREEZING, PLAIN, converted_cache, records, run_ours, seconds_of

SMOKE = ("trainer=smoke", "trainer.max_steps=2", "tracking=none")
COLUMNS = (
    Column("wall_s", "whole process, s", ratio=True),
    Column("train_s", "training, s", ratio=True),
    Column("scores_s", "all scores, s", ratio=True),
    Column("load_s", "base, s"),
    Column("peak_rss_bytes", "peak memory, GiB", scale=2**-30),
    Column("first_step_s", "start to first step, s"),
)


def main() -> None:
    """Run the benchmark."""
    options = parsed(arguments(__doc__, repeats=3))
    root, cache = Path(tempfile.mkdtemp(prefix="bench-main-job-")), cache_folder()
    overrides = [*(SMOKE if options.quick else ()), *options.overrides]

    def case(name: str, *more: str, peer: bool = False) -> Case:
        def run(repeat: int) -> Measured:
            folder = root / f"{name.replace(' ', '-')}-{repeat}"
            fresh = converted_cache(folder / "cache", cache)
            measured, trainings = run_ours([*overrides, *more], folder, cache=fresh)
            return {**measured, **phases(records(folder)[0], trainings[0])}

        return Case(name, run, peer=peer)

    cases = [case("make run"), case("every saving off", *PLAIN, peer=True)]
    try:
        results, machines = interleaved(cases, options.repeats)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    report(
        "main_job" + "-quick" * options.quick,
        cases,
        results,
        COLUMNS,
        machines=machines,
        settings={"overrides": overrides},
        goal="half the wall time, 3 minutes on 2 cores",
    )


def phases(record: dict[str, Any], step_ends_s: list[float]) -> Measured:
    """Seconds of a run's phases, and from its start to the end of its first step (without the interpreter's start)."""
    seconds: dict[str, float] = record["resources"]["phases_s"]
    before = 0.0
    for name, value in seconds.items():  # in the order in which they began
        if name == "train":
            break
        before += value
    return {
        "train_s": seconds_of(record, FREEZING, "train"),
        "load_s": seconds_of(record, "load base"),
        "scores_s": seconds_of(record, "score"),
        "first_step_s": before + step_ends_s[0],
    }


if __name__ == "__main__":
    main()
