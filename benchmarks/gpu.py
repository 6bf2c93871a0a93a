"""Training of an 8-billion-parameter Llama on a GPU, beside peft with Trainer and TRL's SFTTrainer.

    python benchmarks/gpu.py                                # LoRA r=16 on all layers, rows of 512 tokens
    python benchmarks/gpu.py --last4 --tokens 2048          # on the last 4 layers, rows of 2,048
    python benchmarks/gpu.py --quick                        # does it work? a tiny shape, on any machine

Random weights of Llama 3.1 8B's shapes in nf4, computing in bfloat16, batch 8 (``--batch-size``); 16 GB of disk for the
weights. Peers run one epoch, ours three, since it can keep states between them; computing these counts. Where
liger-kernel is installed in the peers' environment, TRL runs with it too.

Utilisation counts the arithmetic that cannot be left out (see floor.py), for all alike, over the rate of matrix
products in bfloat16 on this device in this run. Tokens are those of the rows, padding left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from floor import step_operations
from measure import REPOSITORY, Column, Measured, arguments, cache_folder, interleaved, report
from measure import run_process as run
from peer import write_texts
from train_step import TRAINING, peers_for, repeated_text, training_cases

COLUMNS = (
    Column("tokens_per_s", "tokens/s", more_is_better=True, ratio=True),
    Column("later_tokens_per_s", "later epochs", more_is_better=True),
    Column("utilisation", "utilisation", more_is_better=True),
    Column("step_s", "s per step"),
    Column("peak_device_bytes", "peak device memory, GiB", scale=2**-30),
    Column("wall_s", "whole process, s"),
)


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--rows", type=int, default=64, help="training rows, a multiple of the batch (default 64)")
    parser.add_argument("--tokens", type=int, default=512, help="of the longest row (default 512)")
    parser.add_argument("--batch-size", type=int, default=8, help="rows of a step (default 8)")
    parser.add_argument("--last4", action="store_true", help="LoRA on the last 4 layers instead of all")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.rows, options.tokens, options.batch_size = 1, 8, 128, 4
    root, cache = Path(tempfile.mkdtemp(prefix="bench-gpu-")), cache_folder()
    layers = ("last:2" if options.quick else "last:4") if options.last4 else "all"
    try:
        model = _model(root, cache, "tiny" if options.quick else "llama_8b")
        overrides = [
            *(f"task.max_train={options.rows}", f"adapter.layers={layers}", *TRAINING),
            *("model=folder", "model.name=random", f"model.path={model}", f"trainer.batch_size={options.batch_size}"),
            *options.overrides,
        ]
        overrides.append(_lengthened(root, cache, overrides, options.tokens))
        facts = write_texts(root / "texts", overrides, cache=cache)
        peers = peers_for(layers, batch_size=options.batch_size)
        if _installed("liger_kernel", options.peers_python):
            peers["TRL SFTTrainer with Liger kernels"] = [*peers["TRL SFTTrainer"], "--liger"]
        cases = training_cases(
            root, overrides, peers, model=facts["model"], cache=cache, python=options.peers_python, plain=False
        )
        results, machines = interleaved(cases, options.repeats)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    operations = step_operations(facts, layers, steps=options.rows // options.batch_size)
    rate = machines[0].get("gpu_matmul_gflops", machines[0]["matmul_gflops"]) * 1e9
    for runs in results.values():
        for one in runs:
            one.update(_per_token(one, facts["nerus"]["train"], operations / rate))
    report(
        f"gpu_{options.tokens}" + "_last4" * options.last4 + "-quick" * options.quick,
        cases,
        results,
        COLUMNS,
        machines=machines,
        settings={"overrides": overrides, "rows": facts["nerus"]["train"], "operations_per_step": operations},
        goal="ahead of each peer",
    )


def _model(root: Path, cache: Path, shape: str) -> Path:
    """A folder with random weights of ``shape`` and the embedded model's tokenizer."""
    tokenizer = write_texts(root / "tokenizer", ["task.max_train=1"], cache=cache)["model"]
    script = REPOSITORY / "benchmarks" / "random_model.py"
    run([sys.executable, script, root / "model", tokenizer, shape], root)
    return root / "model"


def _lengthened(root: Path, cache: Path, overrides: Sequence[str], tokens: int) -> str:
    """The override that repeats each row's text so often that the longest row has about ``tokens`` tokens."""

    def longest(times: int) -> int:
        facts = write_texts(root / "lengths", [*overrides, repeated_text(times)], cache=cache)
        return int(facts["nerus"]["train"]["longest"])

    once, per_text = longest(1), longest(2) - longest(1)
    return repeated_text(1 + max(0, (tokens - once) // per_text))


def _installed(package: str, python: Path) -> bool:
    return subprocess.run([python, "-c", f"import {package}"], capture_output=True).returncode == 0


def _per_token(measured: Measured, rows: Mapping[str, Any], floor_step_s: float) -> Measured:
    per_row = rows["tokens"] / rows["rows"]
    found = {
        "tokens_per_s": measured["examples_per_s"] * per_row,
        "utilisation": floor_step_s / measured["step_s"],
    }
    if "later_epochs_per_s" in measured:
        found["later_tokens_per_s"] = measured["later_epochs_per_s"] * per_row
    return found


if __name__ == "__main__":
    main()
