"""Answers and label scores of an adapted model, beside `generate` one by one and by 8, and lm-evaluation-harness.

    python benchmarks/evaluate.py                    # 40 prompts, 100 labelled pairs
    python benchmarks/evaluate.py --prompts 200 --pairs 300    # the sizes that were asked for; hours
    python benchmarks/evaluate.py --quick            # does it work?

A LoRA r=16 is trained first, so that answers end when they should; peft loads the folder that was saved. The base's nf4
weights are the same everywhere. `generate` computes with bitsandbytes' own kernel for the processor, which on some is
faster than the exact one and rounds to bfloat16. Label scores are of both label words after each prompt, the end token
included; the harness scores the base, as ours does here.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from measure import REPOSITORY, Case, Column, Measured, arguments, cache_folder, interleaved, parsed, report
from measure import run_process as run
from ours import converted_cache, records, run_ours, seconds_of
from peer import run_peer, write_texts

COLUMNS = (
    Column("evaluate_s", "s", ratio=True),
    Column("items_per_s", "items/s", more_is_better=True),
    Column("wall_s", "whole process, s"),
    Column("peak_rss_bytes", "peak memory, GiB", scale=2**-30),
)


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--prompts", type=int, default=40, help="to generate answers for (default 40)")
    parser.add_argument("--pairs", type=int, default=100, help="to score labels of (default 100)")
    parser.add_argument("--train-rows", type=int, default=160, help="to train the adapter on (default 160)")
    options = parsed(parser)
    if options.quick:
        options.prompts, options.pairs, options.train_rows = 3, 4, 8
    root, cache = Path(tempfile.mkdtemp(prefix="bench-evaluate-")), cache_folder()
    try:
        run([sys.executable, REPOSITORY / "benchmarks" / "larger_samples.py", root / "data", options.pairs], root)
        overrides = [
            f"task.max_eval={options.prompts}",
            f"task.path={root / 'data' / 'nerus'}",
            "eval.validation=false",
            f"eval.tasks.terra.path={root / 'data' / 'terra'}",
            f"eval.tasks.terra.max_eval={options.pairs}",
            "tracking=none",
            *options.overrides,
        ]
        adapter = _trained(root / "training", options.train_rows, options.overrides, cache)
        facts = write_texts(root / "texts", [*overrides, "adapter=none"], cache=cache)
        groups = {
            "generation": _generation(root, overrides, adapter, facts["model"], options.peers_python, cache),
            "labels": _labels(root, overrides, facts["model"], options.peers_python, cache),
        }
        measured = {name: interleaved(cases, options.repeats) for name, cases in groups.items()}
    finally:
        shutil.rmtree(root, ignore_errors=True)
    goals = {"generation": "5 times faster than one by one, 2 times than by 8", "labels": "1.5 times faster"}
    for name, cases in groups.items():
        results, machines = measured[name]
        report(
            f"evaluate_{name}" + "-quick" * options.quick,
            cases,
            results,
            COLUMNS,
            machines=machines,
            settings={"overrides": overrides, "texts": facts},
            goal=goals[name],
        )


def _trained(folder: Path, rows: int, overrides: Sequence[str], cache: Path) -> Path:
    """The folder of a LoRA trained on the bundled sample."""
    settings = [f"task.max_train={rows}", "eval.special=[]", "eval.general=[]", "eval.validation=false"]
    run_ours([*settings, "tracking=none", "hydra.run.dir=run", *overrides], folder, cache=cache)
    return folder / "run" / "adapter"


def _generation(
    root: Path, overrides: Sequence[str], adapter: Path, model: str, python: Path, cache: Path
) -> list[Case]:
    test = root / "texts" / "nerus.test.jsonl"
    items = len(test.read_text(encoding="utf-8").splitlines())

    def ours(repeat: int) -> Measured:
        folder = root / f"generation-ours-{repeat}"
        fresh = converted_cache(folder / "cache", cache)
        asked = ["adapter=saved", f"adapter.path={adapter}", "eval.general=[]"]
        measured, _ = run_ours([*overrides, *asked], folder, cache=fresh)
        seconds = seconds_of(records(folder)[0], "score adapted")
        return {**measured, "evaluate_s": seconds, "items_per_s": items / seconds}

    def peer(batch_size: int) -> Case:
        def run_once(repeat: int) -> Measured:
            sizes = ["--generate-batch-size", str(batch_size), "--adapter", adapter]
            folder = root / f"generation-{batch_size}-{repeat}"
            measured, _ = run_peer("peft_trainer", folder, "--test", test, *sizes, model=model, python=python)
            return {**measured, "items_per_s": items / measured["evaluate_s"]}

        return Case(f"generate, {'one by one' if batch_size == 1 else f'batches of {batch_size}'}", run_once, peer=True)

    return [Case("adapter_exp", ours), peer(8), peer(1)]


def _labels(root: Path, overrides: Sequence[str], model: str, python: Path, cache: Path) -> list[Case]:
    test = root / "texts" / "terra.test.jsonl"
    items = len(test.read_text(encoding="utf-8").splitlines())

    def ours(repeat: int) -> Measured:
        folder = root / f"labels-ours-{repeat}"
        command = [sys.executable, REPOSITORY / "benchmarks" / "score_labels.py", folder / "result.json", *overrides]
        measured = run(command, folder, environment={"ADAPTER_EXP_CACHE": str(cache)})
        found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        return {**measured, "evaluate_s": found["evaluate_s"], "items_per_s": items / found["evaluate_s"]}

    def peer(batch_size: int) -> Case:
        def run_once(repeat: int) -> Measured:
            folder = root / f"labels-{batch_size}-{repeat}"
            sizes = ["--batch-size", str(batch_size)]
            measured, _ = run_peer("lm_eval_choices", folder, "--test", test, *sizes, model=model, python=python)
            return {**measured, "items_per_s": items / measured["evaluate_s"]}

        return Case(f"lm-evaluation-harness, batches of {batch_size}", run_once, peer=True)

    return [Case("adapter_exp", ours), peer(8), peer(1)]


if __name__ == "__main__":
    main()
