"""transformers' Trainer with our sampler, loss, validation loss and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from adapter_exp.adapters import Attached
from adapter_exp.adapters.manifest import ADAPTER_FOLDER
from adapter_exp.data.rendering import TrainingRow
from adapter_exp.files import write_json_atomic
from adapter_exp.training.batches import BucketSampler, Collate, TokenCounter
from adapter_exp.training.checkpoints import ROWS, publish, rows_sha256
from adapter_exp.training.flow import out_of_patience, validation_losses
from adapter_exp.training.loss import answer_loss_sum
from adapter_exp.training.specs import TrainerConfig


class AdapterTrainer(Trainer):
    """Trains the attached adapter only.

    Args:
        attached: the adapter and the model it sits in.
        arguments: transformers' own settings.
        train_rows, validation_rows: tokenised examples; without validation rows no validation loss is taken.
        sampler: order of the training rows.
        collate: rows to tensors.
        answer_only_logits, fused: see ``loss.answer_loss_sum``.
        checkpoint_folder: where checkpoints are published, at most ``arguments.save_total_limit`` of them.
        save_adapter: writes the adapter's folder; checkpoints hold one.
    """

    def __init__(
        self,
        attached: Attached,
        arguments: TrainingArguments,
        *,
        train_rows: Sequence[TrainingRow],
        validation_rows: Sequence[TrainingRow],
        sampler: BucketSampler,
        collate: Collate,
        answer_only_logits: bool,
        fused: bool,
        checkpoint_folder: Path,
        save_adapter: Callable[[Path], None],
    ) -> None:
        self.attached = attached
        self.sampler = sampler
        self.loss_options = {"answer_only_logits": answer_only_logits, "fused": fused}
        self.collate = collate
        self.checkpoint_folder = checkpoint_folder
        self.save_adapter = save_adapter
        self._staging = checkpoint_folder
        super().__init__(
            model=attached.model,
            args=arguments,
            data_collator=TokenCounter(collate),  # validation rows do not count
            train_dataset=train_rows,
            eval_dataset=validation_rows or None,
        )
        # Our loss is already divided by the answer tokens of the whole accumulation window.
        self.model_accepts_loss_kwargs = True

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches in the sampler's order, collated in this process."""
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,
            batch_size=self.args.train_batch_size,
            sampler=self.sampler,
            collate_fn=self.data_collator,
            pin_memory=torch.cuda.is_available(),
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Mean cross-entropy per answer token of the accumulation window that this batch belongs to."""
        total, tokens = answer_loss_sum(self.attached.model, inputs, **self.loss_options)
        return total / (tokens if num_items_in_batch is None else num_items_in_batch)

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> AbstractContextManager[None]:
        """Mixed precision around the loss: accelerate puts it around ``model.forward``, which our loss goes past."""
        context: AbstractContextManager[None] = self.accelerator.autocast()
        return context

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Mean validation loss per answer token: each token counts once, whatever the batches."""
        metrics = {"eval_loss": self.validation_loss()}
        self.log(metrics)
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def validation_loss(self) -> float:
        """Cross-entropy in nats per answer token over the validation rows, in eval mode."""
        rows = sorted(self.eval_dataset, key=lambda row: len(row.ids))
        size = self.args.eval_batch_size
        total, tokens = 0.0, 0
        was_training = self.model.training
        self.model.eval()
        for start in range(0, len(rows), size):
            batch = self._prepare_inputs(self.collate(rows[start : start + size]))
            with self.compute_loss_context_manager():
                loss, count = answer_loss_sum(self.attached.model, batch, **self.loss_options)
            total += float(loss)
            tokens += int(count)
        self.model.train(was_training)
        return total / max(tokens, 1)

    # transformers asks for its output folder and then writes `checkpoint-N` into it: here that is a staging folder,
    # which is published by rename once everything is in it.
    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        keep = self.args.save_total_limit or 1
        with publish(self.checkpoint_folder, self.state.global_step, keep=keep) as staging:
            self._staging = staging / "parts"
            super()._save_checkpoint(model, trial)
            parts = self._staging / f"checkpoint-{self.state.global_step}"
            for file in parts.iterdir():
                file.rename(staging / file.name)
            parts.rmdir()
            self._staging.rmdir()
            write_json_atomic(staging / ROWS, rows_sha256(self.train_dataset, self.eval_dataset or ()))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self.save_adapter(Path(str(output_dir)) / ADAPTER_FOLDER)

    def take_up_finished(self, checkpoint: Path, patience: int | None) -> bool:
        """Take up the state of ``checkpoint`` if training had ended there, by its last step or by early stopping.

        transformers would train one step more.
        """
        state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        ended = state.global_step >= state.max_steps or out_of_patience(validation_losses(state), patience)
        if ended:
            self.state = state
            self._initial_global_step = state.global_step
        return ended

    @property
    def first_step(self) -> int:
        """Optimiser steps that an earlier process had done when this one began."""
        return int(self._initial_global_step)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Nothing to do: ``train`` has put the checkpoint's weights into the adapter."""


def training_arguments(
    settings: TrainerConfig,
    *,
    output_dir: Path,
    seed: int,
    steps: int,
    dtype: torch.dtype,
    device: torch.device,
    fused: bool,
) -> TrainingArguments:
    """Our settings as transformers' ``TrainingArguments``.

    Args:
        steps: optimiser steps of the whole run.
        dtype: autocast to this when it is not float32.
        fused: AdamW in one pass over each tensor.
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
    return arguments
