"""Answers and label scores of an adapted model, beside `generate` one by one and by 8, and lm-evaluation-harness.

    python benchmarks/evaluate.py                    # 40 prompts, 100 labelled pairs
    python benchmarks/evaluate.py --prompts 200 --pairs 300    # the sizes that were asked for; 25 minutes
    python benchmarks/evaluate.py --quick            # does it work?

A LoRA r=16 is trained first, so that answers end when they should; peft loads the folder that was saved. The base's nf4
weights are the same everywhere. `generate` computes with bitsandbytes' own kernel for the processor, which on some is
faster than the exact one and rounds to bfloat16, so some answers differ; the table tells how many. Label scores are of
both label words after each prompt, the end token included; the harness scores the base, as ours does here.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from measure import (
    REPOSITORY,
    Case,
    Column,
    Measured,
    arguments,
    cache_folder,
    interleaved,
    parsed,
    ratios,
    report,
    spread,
)
from measure import run_process as run
from ours import converted_cache, records, run_ours, seconds_of
from peer import run_peer, write_texts

SECONDS = Column("evaluate_s", "s", ratio=True)
COLUMNS = (
    SECONDS,
    Column("items_per_s", "items/s", more_is_better=True),
    Column("wall_s", "whole process, s"),
    Column("peak_rss_bytes", "peak memory, GiB", scale=2**-30),
    Column("differs", "differs from ours"),
)
Said = dict[str, list[Any]]
"""By case, the answers or log-likelihoods of its last run."""


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
        said: dict[str, Said] = {"generation": {}, "labels": {}}
        python = options.peers_python
        groups = {
            "generation": _generation(root, overrides, adapter, facts, python, cache, said["generation"]),
            "labels": _labels(root, overrides, facts["model"], python, cache, said["labels"]),
        }
        measured = {name: interleaved(cases, options.repeats) for name, cases in groups.items()}
    finally:
        shutil.rmtree(root, ignore_errors=True)
    goals = {"generation": "5 times faster than one by one, 2 times than by 8", "labels": "1.5 times faster"}
    for name, cases in groups.items():
        results, machines = measured[name]
        for case in cases:
            results[case.name][-1]["differs"] = difference(said[name][cases[0].name], said[name][case.name])
        report(
            f"evaluate_{name}" + "-quick" * options.quick,
            cases,
            results,
            COLUMNS,
            machines=machines,
            settings={"overrides": overrides, "texts": facts},
            goal=goals[name],
        )
        for peer in cases[1:]:
            times = ratios(results[cases[0].name], results[peer.name], SECONDS)
            print(f"{spread(times)} times faster than {peer.name}")


def difference(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """How many answers differ; of log-likelihoods the largest difference, in nats."""
    if isinstance(ours[0], str):
        return float(sum(a != b for a, b in zip(ours, theirs, strict=True)))
    pairs = (zip(a, b, strict=True) for a, b in zip(ours, theirs, strict=True))
    return max(abs(a - b) for pair in pairs for a, b in pair)


def _trained(folder: Path, rows: int, overrides: Sequence[str], cache: Path) -> Path:
    """The folder of a LoRA trained on the bundled sample."""
    settings = [f"task.max_train={rows}", "eval.special=[]", "eval.general=[]", "eval.validation=false"]
    run_ours([*settings, "tracking=none", "hydra.run.dir=run", *overrides], folder, cache=cache)
    return folder / "run" / "adapter"


def _generation(
    root: Path,
    overrides: Sequence[str],
    adapter: Path,
    facts: Mapping[str, Any],
    python: Path,
    cache: Path,
    said: Said,
) -> list[Case]:
    test = root / "texts" / "nerus.test.jsonl"
    items = len(test.read_text(encoding="utf-8").splitlines())

    def ours(repeat: int) -> Measured:
        folder = root / f"generation-ours-{repeat}"
        fresh = converted_cache(folder / "cache", cache)
        asked = ["adapter=saved", f"adapter.path={adapter}", "eval.general=[]"]
        measured, _ = run_ours([*overrides, *asked, "hydra.run.dir=run"], folder, cache=fresh)
        seconds = seconds_of(records(folder)[0], "score adapted")
        rows = (folder / "run" / "predictions" / "nerus.adapted.jsonl").read_text(encoding="utf-8").splitlines()
        said["adapter_exp"] = [json.loads(row)["response"].strip() for row in rows]
        return {**measured, "evaluate_s": seconds, "items_per_s": items / seconds}

    def peer(batch_size: int) -> Case:
        name = f"generate, {'one by one' if batch_size == 1 else f'batches of {batch_size}'}"

        def run_once(repeat: int) -> Measured:
            asked = ["--generate-batch-size", str(batch_size), "--adapter", adapter]
            asked += ["--max-new-tokens", str(facts["nerus"]["max_new_tokens"])]
            folder = root / f"generation-{batch_size}-{repeat}"
            measured, found = run_peer(
                "peft_trainer", folder, "--test", test, *asked, model=facts["model"], python=python
            )
            said[name] = [answer.strip() for answer in found["answers"]]
            return {**measured, "items_per_s": items / measured["evaluate_s"]}

        return Case(name, run_once, peer=True)

    return [Case("adapter_exp", ours), peer(8), peer(1)]


def _labels(root: Path, overrides: Sequence[str], model: str, python: Path, cache: Path, said: Said) -> list[Case]:
    test = root / "texts" / "terra.test.jsonl"
    items = len(test.read_text(encoding="utf-8").splitlines())

    def ours(repeat: int) -> Measured:
        folder = root / f"labels-ours-{repeat}"
        command = [sys.executable, REPOSITORY / "benchmarks" / "score_labels.py", folder / "result.json", *overrides]
        fresh = converted_cache(folder / "cache", cache)
        measured = run(command, folder, environment={"ADAPTER_EXP_CACHE": str(fresh)})
        found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        said["adapter_exp"] = found["logprobs"]
        return {**measured, "evaluate_s": found["evaluate_s"], "items_per_s": items / found["evaluate_s"]}

    def peer(batch_size: int) -> Case:
        name = f"lm-evaluation-harness, batches of {batch_size}"

        def run_once(repeat: int) -> Measured:
            folder = root / f"labels-{batch_size}-{repeat}"
            sizes = ["--batch-size", str(batch_size)]
            measured, found = run_peer("lm_eval_choices", folder, "--test", test, *sizes, model=model, python=python)
            said[name] = found["logprobs"]
            return {**measured, "items_per_s": items / measured["evaluate_s"]}

        return Case(name, run_once, peer=True)

    return [Case("adapter_exp", ours), peer(8), peer(1)]


if __name__ == "__main__":
    main()
