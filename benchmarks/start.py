"""How long a start takes: `--help`, `--cfg job`, and a run up to its first training step, beside the peers' imports.

    python benchmarks/start.py
    python benchmarks/start.py --quick       # does it work?

An untimed run before fills the caches: converted model, unpacked weights, tokens, base's answers, MLflow's database.
The time to the first step is from the start of the process until the adapter of a run of one step is on disk, so it
holds a bit more than was asked for: the step, the validation loss of one row, and the saving. Few items are scored, and
the base's answers come from the disk, as they do in every run but the first.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from measure import Case, Column, Measured, arguments, cache_folder, interleaved, parsed, report, run_process

ONE_STEP = (
    "trainer.max_steps=1",
    "task.max_validation=1",
    "task.max_eval=4",
    "task.max_new_tokens=8",
    "eval.tasks.terra.max_eval=4",
    "eval.tasks.terra.max_new_tokens=4",
    "eval.resamples=100",
    "eval.validation=false",
)
IMPORTS = "import torch, transformers, peft, bitsandbytes; from transformers import AutoModelForCausalLM, Trainer"
TRL = f"{IMPORTS}; from trl import SFTTrainer"
ENTRYPOINT = (sys.executable, "-m", "adapter_exp.run")
SAVED = "adapter/adapter_exp.json"
COLUMNS = (
    Column("ready_s", "ready, s", ratio=True),
    Column("wall_s", "whole process, s"),
    Column("peak_rss_bytes", "peak memory, GiB", scale=2**-30),
)


def main() -> None:
    """Run the benchmark."""
    options = parsed(arguments(__doc__, repeats=5))
    root = Path(tempfile.mkdtemp(prefix="bench-start-"))
    overrides = [*ONE_STEP, *options.overrides]
    cases = [
        Case("adapter_exp --help", lambda _: _to_the_end(root, *ENTRYPOINT, "--help")),
        Case("adapter_exp --cfg job", lambda _: _to_the_end(root, *ENTRYPOINT, "--cfg", "job")),
        Case("adapter_exp, first step", lambda repeat: _to_the_first_step(root, f"run-{repeat}", overrides)),
        Case("imports of peft + Trainer", lambda _: _to_the_end(root, sys.executable, "-c", IMPORTS), peer=True),
    ]
    if options.peers_python.is_file():
        trl = Case("imports of TRL", lambda _: _to_the_end(root, options.peers_python, "-c", TRL), peer=True)
        cases.append(trl)
    try:
        _to_the_first_step(root, "warm", overrides)
        results, machines = interleaved(cases, options.repeats)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    report(
        "start" + "-quick" * options.quick,
        cases,
        results,
        COLUMNS,
        machines=machines,
        settings={"overrides": overrides},
        goal="first training step in under 12 s with a warm cache",
    )


def _to_the_end(folder: Path, *command: str | Path) -> Measured:
    measured = run_process(command, folder)
    return {**measured, "ready_s": measured["wall_s"]}


def _to_the_first_step(root: Path, name: str, overrides: list[str]) -> Measured:
    """One run, beside the others so that they share MLflow's database; ready when its adapter is written."""
    variables = {"ADAPTER_EXP_CACHE": str(cache_folder())}
    began = time.time()  # the clock of the file's time stamp
    command = (*ENTRYPOINT, f"output_dir={root}", f"hydra.run.dir={root / name}", *overrides)
    measured = run_process(command, root, environment=variables)
    return {**measured, "ready_s": (root / name / SAVED).stat().st_mtime - began}


if __name__ == "__main__":
    main()
