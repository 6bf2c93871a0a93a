"""A sweep as one command here, against the same jobs as peft + Trainer scripts, one process each; see sweep_layers.py.

Both train on the same rows for the same epochs and answer the same test prompts. Ours is timed from an empty cache (the
converted model apart) to the end of the comparison; it scores the base, takes validation losses and keeps the best
weights besides, which the scripts do not. The scripts' base is scored once, in one more process.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import Case, Column, Measured, arguments, cache_folder, interleaved, parsed, report
from ours import FREEZING, converted_cache, records, run_ours, seconds_of
from peer import run_peer, write_texts

COLUMNS = (
    Column("wall_s", "all jobs, s", ratio=True),
    Column("job_s", "s per job"),
    Column("train_s", "training, s per job"),
    Column("evaluate_s", "answers, s per job"),
    Column("peak_rss_bytes", "peak memory, GiB", scale=2**-30),
)


@dataclass(frozen=True)
class Job:
    """One job of a sweep, as a peer's options; ours is made of the axes."""

    options: tuple[str, ...]


def sweep_options(description: str | None) -> argparse.Namespace:
    """The options of both sweeps."""
    parser = arguments(description, repeats=1)
    parser.add_argument("--rows", type=int, default=160, help="training rows (default 160, the whole sample)")
    parser.add_argument("--items", type=int, default=64, help="test prompts (default 64, the whole sample)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--peer-jobs",
        type=int,
        default=2,
        help="run this many of the peer's jobs, evenly spread, and multiply; 0: all of them (default 2)",
    )
    options = parsed(parser)
    if options.quick:
        options.rows, options.items, options.epochs, options.peer_jobs = 8, 2, 1, 1
    return options


def compare_sweep(
    name: str, options: argparse.Namespace, *, axes: Sequence[str], fixed: Sequence[str], jobs: Sequence[Job], goal: str
) -> None:
    """Time both ways and report.

    Args:
        axes: ``key=value,value`` overrides of our sweep; their product are ``jobs``, in any order.
        fixed: overrides of all our jobs.
    """
    root, cache = Path(tempfile.mkdtemp(prefix=f"bench-{name}-")), cache_folder()
    overrides = [
        *fixed,
        f"task.max_train={options.rows}",
        f"task.max_eval={options.items}",
        f"trainer.epochs={options.epochs}",
        "trainer.batch_size=8",
        "trainer.gradient_accumulation_steps=1",
        "task.max_validation=8",
        "eval.general=[]",
        "eval.validation=false",
        "tracking=none",
        *options.overrides,
    ]
    chosen = spread_jobs(jobs, options.peer_jobs)
    try:
        facts = write_texts(root / "texts", overrides, cache=cache)

        def ours(repeat: int) -> Measured:
            folder = root / f"ours-{repeat}"
            fresh = converted_cache(folder / "cache", cache)
            measured, _ = run_ours(["-m", *overrides, *axes, "hydra.sweep.dir=sweep"], folder, cache=fresh)
            return {**measured, **_per_job(records(folder / "sweep"), measured, len(jobs))}

        def peer(repeat: int) -> Measured:
            return _peer_jobs(root / f"peer-{repeat}", root / "texts", facts, options, chosen, len(jobs))

        told = f"peft + Trainer scripts{'' if len(chosen) == len(jobs) else f', {len(chosen)} run, times {len(jobs)}'}"
        cases = [Case(f"one sweep of {len(jobs)} jobs", ours), Case(told, peer, peer=True)]
        results, machines = interleaved(cases, options.repeats)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    settings = {
        "overrides": overrides,
        "axes": axes,
        "rows": facts["nerus"],
        "peer_jobs": [job.options for job in chosen],
    }
    report(name + "-quick" * options.quick, cases, results, COLUMNS, machines=machines, settings=settings, goal=goal)


def spread_jobs(jobs: Sequence[Job], count: int) -> list[Job]:
    """So many of ``jobs``, evenly spread, the first and the last among them; 0: all."""
    if not 0 < count < len(jobs):
        return list(jobs)
    return [jobs[round(k * (len(jobs) - 1) / max(1, count - 1))] for k in range(count)]


def _per_job(found: Sequence[dict[str, Any]], measured: Measured, jobs: int) -> Measured:
    """Seconds of the phases of our jobs, on average."""
    if len(found) != jobs or any(record["status"] != "ok" for record in found):
        raise SystemExit(f"{len(found)} of {jobs} jobs have a record: {[record['status'] for record in found]}")
    train_s = sum(seconds_of(record, FREEZING, "train") for record in found) / jobs
    answers_s = sum(seconds_of(record, "score") for record in found) / jobs
    return {"job_s": measured["wall_s"] / jobs, "train_s": train_s, "evaluate_s": answers_s}


def _peer_jobs(
    folder: Path, texts: Path, facts: dict[str, Any], options: argparse.Namespace, chosen: Sequence[Job], jobs: int
) -> Measured:
    """The scripts one after the other, and the base's answers once; times are scaled to all jobs."""
    test = ["--test", texts / "nerus.test.jsonl", "--max-new-tokens", str(facts["nerus"]["max_new_tokens"])]
    common: dict[str, Any] = {"model": facts["model"], "python": options.peers_python}
    base, _ = run_peer("peft_trainer", folder / "base", *test, **common)
    runs = []
    for number, job in enumerate(chosen):
        train = ["--train", texts / "nerus.train.jsonl", "--epochs", str(options.epochs)]
        measured, _ = run_peer("peft_trainer", folder / str(number), *train, *test, *job.options, **common)
        runs.append(measured)
    mean = {key: sum(run[key] for run in runs) / len(runs) for key in ("wall_s", "train_s", "evaluate_s")}
    return {
        "wall_s": mean["wall_s"] * jobs + base["wall_s"],
        "job_s": mean["wall_s"],
        "train_s": mean["train_s"],
        "evaluate_s": mean["evaluate_s"],
        "peak_rss_bytes": max(run["peak_rss_bytes"] for run in runs),
    }
