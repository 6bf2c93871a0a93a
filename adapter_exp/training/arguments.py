"""Our settings in transformers' words."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import TrainingArguments

from adapter_exp.errors import UserError
from adapter_exp.parallel.place import HOW_TO_START
from adapter_exp.training.specs import TrainerConfig


def training_arguments(
    settings: TrainerConfig,
    *,
    output_dir: Path,
    seed: int,
    steps: int,
    dtype: torch.dtype,
    device: torch.device,
    fused: bool,
    processes: int,
) -> TrainingArguments:
    """Our settings as transformers' ``TrainingArguments``.

    Args:
        steps: optimiser steps of the whole run.
        dtype: autocast to this when it is not float32.
        fused: AdamW in one pass over each tensor.
        processes: that train together.

    Raises:
        UserError: if accelerate finds another number of processes.
    """
    optimizers = {"adamw": "adamw_torch_fused" if fused else "adamw_torch", "paged_adamw_8bit": "paged_adamw_8bit"}
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        max_steps=steps,
        num_train_epochs=math.ceil(settings.epochs),
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        warmup_steps=settings.warmup_ratio,
        lr_scheduler_type=settings.scheduler if settings.scheduler != "constant" else "constant_with_warmup",
        optim=optimizers[settings.optimizer],
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        logging_strategy="steps",
        logging_steps=settings.logging_steps,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        save_total_limit=settings.save_total_limit,
        seed=seed,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        use_cpu=device.type == "cpu",
    )
    # transformers would otherwise split each batch over all GPUs it sees, behind the sampler's back.
    arguments._n_gpu = min(1, arguments.n_gpu)
    # A launcher's choice of precision, from its own configuration file, does not go before ours.
    arguments.mixed_precision = {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(dtype, "no")
    _refuse_other_launch(arguments.world_size, processes)
    return arguments


def _refuse_other_launch(found: int, processes: int) -> None:
    if found != processes:
        raise UserError(
            f"the launcher started {found} processes in a way that is not supported; start with {HOW_TO_START}."
        )
