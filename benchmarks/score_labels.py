"""Label scores of the base on the entailment task, alone: a run also generates answers there; used by evaluate.py.

python benchmarks/score_labels.py RESULT.json eval.tasks.terra.max_eval=100
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data import composed

from adapter_exp.evaluation.choices import score_continuations
from adapter_exp.models.base import load_base
from adapter_exp.preparation import base_model, load_data, renderer_for
from adapter_exp.tasks.protocol import Choose


def main(result: Path, overrides: Sequence[str]) -> None:
    """Score every label of every test pair and write seconds and log-likelihoods."""
    config = composed([*overrides, "adapter=none"])
    began = time.perf_counter()  # reading and tokenising count: the harness does both in its measured part
    data = next(data for data in load_data(config) if data.task.name == "terra")
    reading_s = time.perf_counter() - began
    base = load_base(
        base_model(config), config.quantization, cache_dir=Path(config.cache_dir).expanduser(), device=config.device
    )
    renderer = renderer_for(config, base, system=data.task.system)
    began = time.perf_counter()
    prompts, continuations = [], []
    for example in data.examples["test"]:
        user = data.task.prompt(example)
        labels = next(request.labels for request in data.task.requests(example) if isinstance(request, Choose))
        prompts.append(renderer.prompt_ids(user))
        continuations.append([renderer.answer_ids(user, label) for label in labels])
    scores = score_continuations(
        base.model, base.tokenizer, prompts, continuations, batch_size=config.eval.batch_size, speed=config.speed
    )
    seconds = reading_s + time.perf_counter() - began
    result.write_text(json.dumps({"evaluate_s": seconds, "logprobs": scores}), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
