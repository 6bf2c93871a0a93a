"""kill -9 at random moments of a sweep, then resume_sweep: does it end with the numbers of a sweep left alone?

    python benchmarks/sweep_kill.py              # 20 kills, tiny models
    python benchmarks/sweep_kill.py --kills 3 --seed 7

Each kill hits a sweep of its own, with an empty cache, at a moment drawn evenly between the first line of its ledger
and the time that the undisturbed one took. The whole process group is killed. A kill after the last job counts, too.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sweep_runs import differences, jobs_of, numbers, run, start

JOBS = ("-m", "adapter=lora,mlp", "adapter.dropout=0.1", "seed=0,1")
TINY = (
    "model=tiny",
    "tracking=none",
    "device=cpu",
    "task.max_train=16",
    "task.max_validation=4",
    "task.max_eval=4",
    "task.max_new_tokens=8",
    "eval.tasks.terra.max_eval=4",
    "eval.tasks.terra.max_new_tokens=8",
    "eval.resamples=100",
    "trainer.epochs=2",
    "trainer.batch_size=2",
    "trainer.save_steps=2",
)
PATIENCE_S = 600.0


def main() -> None:
    """Kill and resume, and tell how many sweeps ended as the undisturbed one; exit code 1 unless all did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("overrides", nargs="*", help="more overrides for every sweep")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    root = Path(tempfile.mkdtemp(prefix="sweep-kill-"))
    try:
        good = _kills(root, [*JOBS, *TINY, *options.overrides], [draw.random() for _ in range(options.kills)])
    finally:
        shutil.rmtree(root, ignore_errors=True)
    print(f"{good} of {options.kills} end with the same evaluation, losses, predictions and adapters")
    sys.exit(0 if good == options.kills else 1)


def _kills(root: Path, arguments: Sequence[str], moments: Sequence[float]) -> int:
    took_s = _sweep(root / "alone", arguments, kill_after_s=None)
    wanted = [numbers(job) for job in jobs_of(root / "alone" / "sweep")]
    print(f"undisturbed: {len(wanted)} jobs, {took_s:.1f} s from the first line of the ledger", flush=True)
    good = 0
    for number, moment in enumerate(moments):
        folder = root / f"kill-{number}"
        after_s = moment * took_s
        _sweep(folder, arguments, kill_after_s=after_s)
        before = _ledger(folder)
        run(["resume_sweep=sweep"], folder, folder / "cache")
        faults = _faults(folder, before, wanted)
        good += not faults
        states = Counter(state for state, _ in before.values())
        told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        print(f"kill {number + 1:2d} after {after_s:5.1f} s ({told}): {'; '.join(faults) or 'same'}", flush=True)
        shutil.rmtree(folder)
    return good


def _sweep(folder: Path, arguments: Sequence[str], *, kill_after_s: float | None) -> float:
    """Run a sweep, or kill it; returns the seconds from the first line of its ledger to its end."""
    process = start([*arguments, "hydra.sweep.dir=sweep"], folder, folder / "cache")
    ledger = folder / "sweep" / "ledger.jsonl"
    deadline = time.monotonic() + PATIENCE_S
    while not ledger.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the sweep has not begun:\n{(folder / 'run.log').read_text()[-2000:]}")
        time.sleep(0.01)
    began = time.monotonic()
    if kill_after_s is None:
        if process.wait():
            sys.exit(f"the sweep failed:\n{(folder / 'run.log').read_text()[-2000:]}")
        return time.monotonic() - began
    time.sleep(kill_after_s)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return time.monotonic() - began


def _ledger(folder: Path) -> dict[str, tuple[str, int]]:
    """State and number of starts of each job, read without the package; a line that was cut short does not count."""
    found: dict[str, tuple[str, int]] = {}
    for line in (folder / "sweep" / "ledger.jsonl").read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        starts = found.get(row["job"], ("", 0))[1]
        found[row["job"]] = (row["state"], starts + (row["state"] == "running"))
    return found


def _faults(folder: Path, before: dict[str, tuple[str, int]], wanted: Sequence[dict]) -> list[str]:
    """What is wrong with a sweep that went on: jobs lost or run twice, numbers that differ."""
    after = _ledger(folder)
    faults = []
    if len(after) != len(wanted) or any(state != "ok" for state, _ in after.values()):
        faults.append(f"ledger: {sorted(state for state, _ in after.values())}")
    again = [job for job, (state, starts) in before.items() if state == "ok" and after[job][1] != starts]
    if again:
        faults.append(f"{len(again)} finished jobs ran again")
    jobs = jobs_of(folder / "sweep")
    if len(jobs) != len(wanted):
        return [*faults, f"{len(jobs)} run folders"]
    for number, (job, expected) in enumerate(zip(jobs, wanted, strict=True)):
        if names := differences(expected, numbers(job)):
            faults.append(f"job {number} differs in {', '.join(names)}")
    return faults


if __name__ == "__main__":
    main()
