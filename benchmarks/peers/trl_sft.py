"""A QLoRA script with TRL's SFTTrainer: prompt/completion data, loss on the completion, its own defaults otherwise.

    python trl_sft.py --model FOLDER --train train.jsonl --result result.json --r 16 --layers last:4

On a CPU bfloat16 is switched off, which TRL would otherwise take and which makes a step several times slower there.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from common import TARGETS, StepClock, layer_numbers, load_model, read_rows, training_settings, write_result
from datasets import Dataset
from peft import LoraConfig
from transformers import set_seed
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Train, save, and write the times."""
    options = _options()
    set_seed(options.seed)
    model, tokenizer = load_model(options.model, options.quantization)
    loaded_s = time.perf_counter()
    layers = layer_numbers(options.layers, model.config.num_hidden_layers)
    rows = [{"prompt": row["prompt"], "completion": row["completion"]} for row in read_rows(options.train)]
    clock = StepClock()
    trainer = SFTTrainer(
        model=model,
        args=_arguments(options),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=options.r,
            lora_alpha=options.alpha,
            lora_dropout=0.0,
            target_modules=TARGETS,
            layers_to_transform=None if options.layers == "all" else layers,
            task_type="CAUSAL_LM",
        ),
        callbacks=[clock],
    )
    trainer.train()
    trainer.save_model(str(options.result.parent / "adapter"))
    write_result(
        options.result,
        train_s=time.perf_counter() - loaded_s,
        step_ends_s=clock.step_ends_s,
        rows=len(rows),
        tokens=sum(len(ids) for ids in trainer.train_dataset["input_ids"]),
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--quantization", choices=("nf4", "none"), default="nf4")
    parser.add_argument("--train", type=Path, required=True, help="JSONL with prompt and completion")
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--r", type=int, default=16)
    parser.add_argument("--alpha", type=int, default=32)
    parser.add_argument("--layers", default="all", help="all or last:N")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--no-checkpointing", action="store_true", help="leave activation checkpointing off")
    parser.add_argument("--liger", action="store_true", help="with the kernels of liger-kernel")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _arguments(options: argparse.Namespace) -> SFTConfig:
    return SFTConfig(
        **training_settings(options),
        completion_only_loss=True,
        max_length=None,  # its default cuts rows at 1,024 tokens
        gradient_checkpointing=not options.no_checkpointing,
        use_liger_kernel=options.liger,
    )


if __name__ == "__main__":
    main()
