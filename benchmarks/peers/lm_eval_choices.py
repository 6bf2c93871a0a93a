"""Label scoring with lm-evaluation-harness: a multiple_choice task over a local JSONL file.

    python lm_eval_choices.py --model FOLDER --test terra.test.jsonl --result result.json --batch-size 8

Rows hold prompt, choices (the end token is part of each) and gold. The log-likelihoods of all choices are written too,
so that they can be compared.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import lm_eval
import yaml
from common import load_model, write_result
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

NAME = "local_choices"


def main() -> None:
    """Score, and write the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--quantization", choices=("nf4", "none"), default="nf4")
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=8)
    options = parser.parse_args()
    model, tokenizer = load_model(options.model, options.quantization)
    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=options.batch_size)
    folder = options.result.parent / "tasks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}.yaml").write_text(yaml.safe_dump(_task(options.test)), encoding="utf-8")
    began = time.perf_counter()
    results: Any = lm_eval.simple_evaluate(
        model=wrapped,
        tasks=[NAME],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    evaluate_s = time.perf_counter() - began
    samples = sorted(results["samples"][NAME], key=lambda sample: sample["doc_id"])
    write_result(
        options.result,
        evaluate_s=evaluate_s,
        items=len(samples),
        accuracy=results["results"][NAME]["acc,none"],
        logprobs=[[float(answer[0]) for answer in sample["filtered_resps"]] for sample in samples],
    )


def _task(test: Path) -> dict[str, Any]:
    return {
        "task": NAME,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(test.resolve())}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}],
    }


if __name__ == "__main__":
    main()
