"""Time and memory against examples, row length, rank, layers, jobs of a sweep and adapters evaluated.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --axes jobs,adapters --sweep-rows 16 --sweep-items 16    # jobs of hardly any training
    python benchmarks/scaling.py --quick              # does it work?

The exponent is the slope of a straight line through the logarithms: 1 is linear, less is better than linear, and fixed
costs make it smaller. Time is that of training, states of frozen layers included; memory is the process's peak. For
jobs and adapters the time is that of the whole process, and the slope of a straight line is told: seconds per job more.
For jobs, its share of a plain job too: the same job alone, in a process of its own, with every saving off.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from measure import Measured, arguments, cache_folder, machine, parsed, spread, write
from ours import FREEZING, PLAIN, converted_cache, records, run_ours, seconds_of
from train_step import TRAINING, repeated_text


@dataclass(frozen=True)
class Axis:
    """A quantity that grows, and the override at each of its sizes; with ``key`` the size is what was measured so."""

    name: str
    points: tuple[tuple[int, str], ...]
    key: str | None = None


AXES = (
    Axis("examples", tuple((n, f"task.max_train={n}") for n in (16, 32, 64, 128))),
    Axis("length", tuple((n, repeated_text(n)) for n in (1, 2, 4, 8)), key="tokens"),
    Axis("rank", tuple((r, f"adapter.r={r}") for r in (4, 16, 64, 192))),
    Axis("layers", tuple((n, f"adapter.layers=last:{n}") for n in (2, 4, 8, 16, 30))),
)
COUNTS = (1, 2, 4)


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, repeats=1)
    names = [*(axis.name for axis in AXES), "jobs", "adapters"]
    parser.add_argument("--axes", default=",".join(names), help=f"some of {','.join(names)}")
    parser.add_argument("--rows", type=int, default=16, help="training rows, where they do not grow (default 16)")
    parser.add_argument("--sweep-rows", type=int, default=160, help="of jobs and adapters (default 160, the sample)")
    parser.add_argument("--sweep-items", type=int, default=64, help="test prompts of those (default 64, the sample)")
    options = parsed(parser)
    if options.quick:
        options.sweep_rows, options.sweep_items = 16, 2
    chosen = options.axes.split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"--axes: {', '.join(sorted(unknown))} is unknown; choose from {', '.join(names)}")
    cache = cache_folder()
    before = machine()
    found: dict[str, list[list[Measured]]] = {}
    if any(axis.name in chosen for axis in AXES):
        print("| grows | sizes | s | exponent of time | peak memory, GiB | exponent of memory |")
        print("| --- | --- | --- | ---: | --- | ---: |")
    for axis in AXES:
        if axis.name in chosen:
            points = axis.points[:2] if options.quick else axis.points
            found[axis.name] = runs = _along(points, options, cache)
            sizes = [run[0][axis.key] for run in runs] if axis.key else [float(size) for size, _ in points]
            print(_axis_line(axis.name, sizes, runs), flush=True)
    if {"jobs", "adapters"} & set(chosen):
        found |= _sweeps(options, cache, counts=COUNTS[: 2 if options.quick else 3])
    settings = {
        "overrides": options.overrides,
        "rows": options.rows,
        "sweep_rows": options.sweep_rows,
        "sweep_items": options.sweep_items,
        "training": TRAINING,
    }
    write(
        "scaling" + "-quick" * options.quick, {"settings": settings, "machine": [before, machine()], "results": found}
    )


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the least-squares line through (log size, log value)."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _along(points: Sequence[tuple[int, str]], options: argparse.Namespace, cache: Path) -> list[list[Measured]]:
    """Every repeat of the training at each point, the points in turn."""
    common = [f"task.max_train={options.rows}", "trainer.epochs=1", *TRAINING, *options.overrides]
    runs: list[list[Measured]] = [[] for _ in points]
    for _ in range(options.repeats):
        for place, (_, setting) in enumerate(points):
            runs[place].append(_training([*common, setting], cache))
    return runs


def _training(overrides: Sequence[str], cache: Path) -> Measured:
    root = Path(tempfile.mkdtemp(prefix="bench-scaling-"))
    try:
        measured, _ = run_ours(overrides, root, cache=converted_cache(root / "cache", cache))
        record = records(root)[0]
        tokens = float(record["training"]["tokens"]["template"])
        return {**measured, "train_s": seconds_of(record, FREEZING, "train"), "tokens": tokens}
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _axis_line(name: str, sizes: Sequence[float], runs: Sequence[Sequence[Measured]]) -> str:
    cells = [name, ", ".join(f"{size:.0f}" for size in sizes)]
    for key, scale in (("train_s", 1.0), ("peak_rss_bytes", 2**-30)):
        middles = [median(run[key] for run in repeated) * scale for repeated in runs]
        cells += [", ".join(f"{middle:.2f}" for middle in middles), f"{exponent(sizes, middles):.2f}"]
    return f"| {' | '.join(cells)} |"


def _sweeps(options: argparse.Namespace, cache: Path, *, counts: Sequence[int]) -> dict[str, list[list[Measured]]]:
    """Whole sweeps of ``counts`` jobs on the last 4 layers, evaluations of as many adapters, and one plain job."""
    repeats, overrides = options.repeats, options.overrides
    common = [
        f"task.max_train={options.sweep_rows}",
        "task.max_validation=8",
        f"task.max_eval={options.sweep_items}",
        "trainer.epochs=3",
        "eval.general=[]",
        "eval.validation=false",
        "tracking=none",
        *overrides,
    ]
    training = ["adapter=lora", "adapter.layers=last:2" if "model=tiny" in overrides else "adapter.layers=last:4"]
    root = Path(tempfile.mkdtemp(prefix="bench-scaling-sweeps-"))
    jobs: list[list[Measured]] = [[] for _ in counts]
    adapters: list[list[Measured]] = [[] for _ in counts]
    plain: list[Measured] = []
    try:
        for repeat in range(repeats):
            for place, count in enumerate(counts):
                folder = root / f"jobs-{count}-{repeat}"
                seeds = f"seed={','.join(map(str, range(count)))}"
                jobs[place].append(_sweep([*common, *training, seeds], folder, cache))
            saved = [root / f"jobs-{counts[-1]}-{repeat}" / "sweep" / str(job) / "adapter" for job in range(counts[-1])]
            for place, count in enumerate(counts):
                paths = f"adapter.path={','.join(map(str, saved[:count]))}"
                folder = root / f"adapters-{count}-{repeat}"
                adapters[place].append(_sweep([*common, "adapter=saved", paths], folder, cache))
            folder = root / f"plain-{repeat}"
            measured, _ = run_ours([*common, *training, *PLAIN], folder, cache=converted_cache(folder / "cache", cache))
            plain.append(measured)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    alone_s = median(run["wall_s"] for run in plain)
    for name, runs in (("jobs", jobs), ("adapters", adapters)):
        slope_s = _slope(counts, [median(run["wall_s"] for run in repeated) for repeated in runs])
        times = ", ".join(spread([run["wall_s"] for run in repeated]) for repeated in runs)
        print(f"\n{name}: {', '.join(map(str, counts))} take {times} s; {slope_s:.1f} s more each", end="")
    print(f"\na plain job alone takes {spread([run['wall_s'] for run in plain])} s")
    slope_s = _slope(counts, [median(run["wall_s"] for run in repeated) for repeated in jobs])
    print(f"a further job of the sweep is {slope_s / alone_s:.2f} of it (asked: at most 0.15)")
    return {"jobs": jobs, "adapters": adapters, "plain": [plain]}


def _sweep(overrides: Sequence[str], folder: Path, cache: Path) -> Measured:
    fresh = converted_cache(folder / "cache", cache)
    measured, _ = run_ours(["-m", *overrides, "hydra.sweep.dir=sweep"], folder, cache=fresh)
    return measured


def _slope(counts: Sequence[int], values: Sequence[float]) -> float:
    """Slope of the least-squares line through (count, value)."""
    return float(np.polyfit(counts, values, 1)[0])


if __name__ == "__main__":
    main()
