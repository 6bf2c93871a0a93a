"""How near a train step comes to the floor: the arithmetic that cannot be left out, at the machine's own rate.

    python benchmarks/floor.py                          # LoRA on all layers
    python benchmarks/floor.py adapter.layers=last:4    # any override
    python benchmarks/floor.py --quick                  # does it work?

Floating-point operations of a step: 4 x (S x T + H x A). S are the weights of the layers from the lowest adapter up, T
the tokens that must pass them (what all rows begin with once a step, and no padding), H the vocabulary projection, A
the answer tokens; 2 operations forward and 2 for the gradient of the input, none for frozen weights. Less is needed in
the last layer, where only tokens that predict an answer need more than keys and values, and in the lowest one, where
nothing asks for the gradient of its input. Left out, so the floor is a little too low: attention's own products, the
adapter, the optimiser. The rate is that of a layer's matrix
products in float32, measured in this run right before and after each training.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measure import Case, Column, Measured, arguments, cache_folder, interleaved, machine, parsed, report
from ours import converted_cache, run_ours
from peer import write_texts
from train_step import BATCH_SIZE, TRAINING

from adapter_exp.adapters.layers import parse_layers

EPOCHS = 2
PROFILED_STEPS = 2
COLUMNS = (
    Column("floor_share", "floor / measured", more_is_better=True),
    Column("later_floor_share", "in the later epoch", more_is_better=True),
    Column("step_s", "s per step"),
    Column("floor_step_s", "floor, s per step"),
    Column("matmul_gflops", "matmul, GFLOP/s"),
    Column("wall_s", "whole process, s"),
)


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--rows", type=int, default=32, help="training rows, a multiple of 8 (default 32)")
    options = parsed(parser)
    rows = 3 * BATCH_SIZE if options.quick else options.rows
    root, cache = Path(tempfile.mkdtemp(prefix="bench-floor-")), cache_folder()
    overrides = [f"task.max_train={rows}", f"trainer.epochs={EPOCHS}", *TRAINING, *options.overrides]
    try:
        facts = write_texts(root / "texts", overrides, cache=cache)
        operations = step_operations(facts, _layers(options.overrides), steps=rows // BATCH_SIZE)

        def run(repeat: int) -> Measured:
            folder = root / f"run-{repeat}"
            fresh = converted_cache(folder / "cache", cache)
            rate = float(machine()["matmul_gflops"])
            measured, trainings = run_ours(overrides, folder, cache=fresh)
            rate = (rate + float(machine()["matmul_gflops"])) / 2
            return {**measured, **_shares(trainings[0], operations, rate)}

        cases = [Case("adapter_exp", run)]
        results, machines = interleaved(cases, options.repeats)
        profiled = root / "profiled"
        profile_cache = converted_cache(profiled / "cache", cache)
        run_ours(overrides, profiled, cache=profile_cache, profile_steps=PROFILED_STEPS)
        profile: dict[str, Any] = json.loads((profiled / "profile.json").read_text(encoding="utf-8"))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    report(
        "floor" + "-quick" * options.quick,
        cases,
        results,
        COLUMNS,
        machines=machines,
        settings={"overrides": overrides, "facts": facts, "operations_per_step": operations, "profile": profile},
        goal="0.6 of the floor",
    )
    print_profile(profile)


def step_operations(facts: Mapping[str, Any], layers: str, *, steps: int) -> float:
    """Floating-point operations of an optimiser step, on average over an epoch of ``steps`` steps."""
    rows = facts["nerus"]["train"]
    lowest = min(parse_layers(layers, facts["layers"]))
    weights = facts["layer_parameters"] * (facts["layers"] - lowest)
    tokens = rows["tokens"] - (rows["rows"] - steps) * rows["prefix_tokens"]
    everywhere = weights * tokens + facts["head_parameters"] * rows["answer_tokens"]
    keys_values = facts["key_value_parameters"]
    beyond = facts["layer_parameters"] - keys_values
    in_last = beyond * (tokens - rows["answer_tokens"])
    into_lowest = (facts["query_parameters"] + keys_values) * tokens
    return (4 * (everywhere - in_last) - 2 * into_lowest) / steps


def print_profile(profile: Mapping[str, Any]) -> None:
    """Where the time of the profiled steps goes, as a table."""
    seconds: dict[str, float] = profile["seconds"]
    total = sum(seconds.values())
    print(f"\n| of {PROFILED_STEPS} profiled steps | s | share |\n| --- | ---: | ---: |")
    for name, value in sorted(seconds.items(), key=lambda item: -item[1]):
        print(f"| {name} | {value:.2f} | {value / total:.0%} |")
    largest = ", ".join(f"{name} {value:.2f} s" for name, value in profile["largest_other"].items())
    print(f"\nThe largest of other: {largest}")


def _layers(overrides: list[str]) -> str:
    chosen = [text.partition("=")[2] for text in overrides if text.startswith("adapter.layers=")]
    return chosen[-1] if chosen else "all"


def _shares(step_ends_s: list[float], operations: float, gflops: float) -> Measured:
    """The floor's share of the measured time, over all epochs and over the last one alone."""
    steps = len(step_ends_s)
    half = steps // EPOCHS
    floor_s = operations / (gflops * 1e9)
    later_s = (step_ends_s[-1] - step_ends_s[half - 1]) / (steps - half)
    step_s = step_ends_s[-1] / steps
    return {
        "floor_share": floor_s / step_s,
        "later_floor_share": floor_s / later_s,
        "step_s": step_s,
        "floor_step_s": floor_s,
        "matmul_gflops": gflops,
    }


if __name__ == "__main__":
    main()
