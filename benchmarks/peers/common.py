"""What the peers' scripts share: the quantised model, rows from a file, `generate`, a clock for steps, and the result.

None of the peers imports this project's package. They read texts that the benchmark wrote, so all work on the same.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback

STARTED = time.perf_counter()
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class StepClock(TrainerCallback):
    """Seconds from the beginning of a training to the end of each optimiser step."""

    def __init__(self) -> None:
        self.step_ends_s: list[float] = []

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.step_ends_s.append(time.perf_counter() - self._began)


def load_model(folder: str, quantization: str) -> tuple[Any, Any]:
    """The model in ``nf4`` (or ``none``) and its tokenizer; float32 computes, which a CPU does best."""
    compute = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=compute, quantization_config=nf4 if quantization == "nf4" else None
    )
    return model, tokenizer


def training_settings(options: Any) -> dict[str, Any]:
    """What peft's Trainer and TRL's are told alike."""
    return {
        "output_dir": str(options.result.parent / "trainer"),
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": options.seed,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": torch.cuda.is_available(),
    }


def layer_numbers(layers: str, total: int) -> list[int]:
    """``all`` or ``last:N`` as numbers of decoder layers."""
    count = total if layers == "all" else int(layers.removeprefix("last:"))
    return list(range(total - count, total))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """One dictionary for each line of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@torch.no_grad()
def generate_answers(model: Any, tokenizer: Any, prompts: list[str], max_new_tokens: int, batch_size: int) -> list[str]:
    """Greedy answers, ``batch_size`` prompts at a time, in the order given."""
    model.eval()
    model.config.use_cache = True
    tokenizer.padding_side = "left"
    answers: list[str] = []
    for start in range(0, len(prompts), batch_size):
        inputs = tokenizer(
            prompts[start : start + batch_size], return_tensors="pt", padding=True, add_special_tokens=False
        ).to(model.device)
        output = model.generate(
            **inputs, max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        answers += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def write_result(path: Path, **facts: Any) -> None:
    """Write what a script measured, with the versions that it ran."""
    versions = {
        name: sys.modules[name].__version__ for name in ("torch", "transformers", "peft") if name in sys.modules
    }
    if torch.cuda.is_available():
        facts["peak_device_bytes"] = torch.cuda.max_memory_allocated()
    path.write_text(json.dumps({**facts, "versions": versions, "inside_s": time.perf_counter() - STARTED}))
