"""A QLoRA script as people write them: peft + transformers' Trainer, then `generate` over the test prompts.

    python peft_trainer.py --model FOLDER --train train.jsonl --test test.jsonl --result result.json --r 16

The usual recipe: nf4 weights, `prepare_model_for_kbit_training` (which switches activation checkpointing on), rows
padded to the longest, loss on the completion, logits at all positions, answers one by one. peft has no bottleneck
adapter, so --mlp-hidden adds a hand-written one behind decoder blocks.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from common import (
    TARGETS,
    StepClock,
    generate_answers,
    layer_numbers,
    load_model,
    read_rows,
    training_settings,
    write_result,
)
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from safetensors.torch import save_file
from torch import nn
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments, set_seed


def main() -> None:
    """Train, save, answer, and write the times."""
    options = _options()
    set_seed(options.seed)
    model, tokenizer = load_model(options.model, options.quantization)
    loaded_s = time.perf_counter()
    result: dict[str, Any] = {"step_ends_s": []}
    if options.train is not None:
        model = _with_adapter(model, options)
        rows = [_row(tokenizer, row) for row in read_rows(options.train)]
        clock = StepClock()
        _train(model, tokenizer, rows, options, clock)
        _save(model, options)
        result = {
            "step_ends_s": clock.step_ends_s,
            "rows": len(rows),
            "tokens": sum(len(row["input_ids"]) for row in rows),
            "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        }
    elif options.adapter is not None:
        model = PeftModel.from_pretrained(model, str(options.adapter))
    trained_s = time.perf_counter()
    if options.test is not None:
        test = read_rows(options.test)
        prompts = [row["prompt"] for row in test]
        result["answers"] = generate_answers(
            model, tokenizer, prompts, options.max_new_tokens, options.generate_batch_size
        )
        result["exact_match"] = sum(a == row["completion"] for a, row in zip(result["answers"], test, strict=True))
    evaluated_s = time.perf_counter()
    write_result(options.result, train_s=trained_s - loaded_s, evaluate_s=evaluated_s - trained_s, **result)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--quantization", choices=("nf4", "none"), default="nf4")
    parser.add_argument("--train", type=Path, help="JSONL with prompt and completion; without it the base answers")
    parser.add_argument("--adapter", type=Path, help="folder of a trained adapter that answers; only without --train")
    parser.add_argument("--test", type=Path, help="JSONL with prompt and completion; without it nothing is generated")
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--r", type=int, default=16)
    parser.add_argument("--alpha", type=int, default=32)
    parser.add_argument("--layers", default="all", help="all or last:N, of LoRA and the bottleneck")
    parser.add_argument("--mlp-hidden", type=int, default=0, help="width of a bottleneck behind each block; 0: none")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--accumulation", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--no-checkpointing", action="store_true", help="leave activation checkpointing off")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--generate-batch-size", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _with_adapter(model: Any, options: argparse.Namespace) -> Any:
    numbers = layer_numbers(options.layers, model.config.num_hidden_layers)
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=not options.no_checkpointing)
    config = LoraConfig(
        r=options.r,
        lora_alpha=options.alpha,
        lora_dropout=0.0,
        target_modules=TARGETS,
        layers_to_transform=None if options.layers == "all" else numbers,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, config)
    if options.mlp_hidden:
        blocks = model.get_base_model().model.layers
        for number in numbers:
            _add_bottleneck(blocks[number], model.config.hidden_size, options.mlp_hidden)
    return model


def _add_bottleneck(block: nn.Module, width: int, hidden: int) -> None:
    """Houlsby et al. 2019: ``h + up(relu(down(h)))`` behind ``block``, zero at first."""
    block.bottleneck = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))
    nn.init.zeros_(block.bottleneck[2].weight)
    nn.init.zeros_(block.bottleneck[2].bias)

    def adapt(module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] + module.bottleneck(output[0]), *output[1:])
        return output + module.bottleneck(output)

    block.register_forward_hook(adapt)


def _row(tokenizer: Any, row: dict[str, str]) -> dict[str, list[int]]:
    prompt = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
    ids = tokenizer(row["prompt"] + row["completion"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
    labels = [-100] * len(prompt) + ids[len(prompt) :]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def _train(model: Any, tokenizer: Any, rows: list[Any], options: argparse.Namespace, clock: StepClock) -> None:
    arguments = TrainingArguments(**training_settings(options), gradient_accumulation_steps=options.accumulation)
    model.config.use_cache = False
    collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
    Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collator, callbacks=[clock]).train()


def _save(model: Any, options: argparse.Namespace) -> None:
    folder = options.result.parent / "adapter"
    model.save_pretrained(str(folder))
    weights = {name: value for name, value in model.state_dict().items() if ".bottleneck." in name}
    if weights:
        save_file(weights, str(folder / "bottleneck.safetensors"))


if __name__ == "__main__":
    main()
