"""One sweep of 6 jobs against 6 separate processes: wall time of both, their ratio, and whether the numbers agree.

    python benchmarks/sweep.py                                 # the goal is a ratio of at most 0.6
    python benchmarks/sweep.py --shared-cache                  # the processes find the base's answers of the first one
    python benchmarks/sweep.py model=tiny trainer.max_steps=2  # any override after the options

LoRA r = 4 and 16, three seeds, bundled samples, small budget, embedded model. Both begin with the converted model on
disk and nothing else: by default each separate process has a cache of its own, as on machines of their own.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from sweep_runs import differences, jobs_of, numbers, run

RANKS, SEEDS = (4, 16), (0, 1, 2)
BUDGET = (
    "trainer.epochs=1",
    "task.max_train=16",
    "task.max_validation=4",
    "task.max_eval=16",
    "eval.tasks.terra.max_eval=16",
)
GOAL = 0.6


def main() -> None:
    """Time both ways and compare what they computed; exit code 1 when a number differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared-cache", action="store_true", help="one cache for the separate processes")
    parser.add_argument("--keep", type=Path, help="keep the runs in this new folder")
    parser.add_argument("overrides", nargs="*", help="more overrides for every run")
    options = parser.parse_args()
    root = options.keep or Path(tempfile.mkdtemp(prefix="sweep-bench-"))
    root.mkdir(parents=True, exist_ok=True)
    try:
        same = _compare(root, [*BUDGET, *options.overrides], shared_cache=options.shared_cache)
    finally:
        if options.keep is None:
            shutil.rmtree(root, ignore_errors=True)
    sys.exit(0 if same else 1)


def _compare(root: Path, overrides: Sequence[str], *, shared_cache: bool) -> bool:
    warm = root / "warm"
    run(["adapter=none", "tracking=none", *overrides], warm, warm / "cache")  # converts the model

    began = time.perf_counter()
    axes = [f"adapter.r={','.join(map(str, RANKS))}", f"seed={','.join(map(str, SEEDS))}"]
    run(["-m", *overrides, *axes, "hydra.sweep.dir=sweep"], root / "one", _cache(root / "one", warm))
    sweep_s = time.perf_counter() - began

    separate_s = 0.0
    folders = []
    for number, (rank, seed) in enumerate(itertools.product(RANKS, SEEDS)):
        cache = _cache(root / "many" / ("shared" if shared_cache else str(number)), warm)
        job = [*overrides, f"adapter.r={rank}", f"seed={seed}", f"hydra.run.dir=run-{number}"]
        began = time.perf_counter()
        run(job, root / "many", cache)
        separate_s += time.perf_counter() - began
        folders.append(root / "many" / f"run-{number}")

    swept = jobs_of(root / "one" / "sweep")
    found = [differences(numbers(first), numbers(second)) for first, second in zip(swept, folders, strict=True)]
    ratio = sweep_s / separate_s
    print(f"one sweep of {len(swept)} jobs     {sweep_s:8.1f} s")
    print(
        f"{len(folders)} separate processes    {separate_s:8.1f} s  ({'one cache' if shared_cache else 'own caches'})"
    )
    print(f"ratio                   {ratio:8.2f}    (goal: at most {GOAL})")
    print(f"cores {os.cpu_count()}, load of the last minute {os.getloadavg()[0]:.1f}, overrides: {' '.join(overrides)}")
    for number, names in enumerate(found):
        if names:
            print(f"job {number} differs in: {', '.join(names)}")
    if not any(found):
        print("losses, scores, predictions and adapters of all jobs are the same")
    return not any(found)


def _cache(folder: Path, warm: Path) -> Path:
    """A cache that holds the converted model and nothing else; an existing one stays."""
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in ("models", "stamps"):
        if (warm / "cache" / name).is_dir() and not (cache / name).exists():
            (cache / name).symlink_to((warm / "cache" / name).resolve())
    return cache


if __name__ == "__main__":
    main()
