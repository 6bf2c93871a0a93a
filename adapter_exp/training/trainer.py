"""transformers' Trainer with our sampler, loss, validation loss and checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from adapter_exp.adapters import Attached
from adapter_exp.adapters.manifest import ADAPTER_FOLDER
from adapter_exp.data.rendering import TrainingRow
from adapter_exp.files import write_json_atomic
from adapter_exp.parallel.world import World
from adapter_exp.training.batches import ANSWERS, BucketSampler, Collate, RankBatches, TokenCounter
from adapter_exp.training.cancel import Cancellation
from adapter_exp.training.checkpoints import ROWS, publish, rows_sha256
from adapter_exp.training.flow import out_of_patience, validation_losses
from adapter_exp.training.loss import answer_loss_sum
from adapter_exp.training.splitting import pieces_of
from adapter_exp.training.trained import TrainedParameters


class AdapterTrainer(Trainer):
    """Trains the attached adapter only, alone or together with other processes.

    Each process computes its rows of every batch; gradients are summed once per optimiser step. The Trainer's model is
    the adapter's parameters alone; the loss takes the model that they sit in.

    Args:
        attached: the adapter and the model it sits in.
        arguments: transformers' own settings.
        train_rows, validation_rows: tokenised examples; without validation rows no validation loss is taken.
        sampler: order of the training rows, in batches of all processes together.
        collate: rows to tensors.
        answer_only_logits, fused: see ``loss.answer_loss_sum``.
        checkpoint_folder: where checkpoints are published, at most ``arguments.save_total_limit`` of them.
        save_adapter: writes the adapter's folder; checkpoints hold one.
        world: the processes that train together; the first one writes the checkpoints.
        cancellation: of this process; all processes stop at the step at which one of them is asked to.
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
        world: World,
        cancellation: Cancellation,
    ) -> None:
        self.attached = attached
        self.sampler = sampler
        self.fused = fused
        self.loss_options = {"answer_only_logits": answer_only_logits, "fused": fused}
        self.collate = collate
        self.checkpoint_folder = checkpoint_folder
        self.save_adapter = save_adapter
        self.world = world
        self.cancellation = cancellation
        self._stop_agreed = False
        self._staging = checkpoint_folder
        super().__init__(
            model=TrainedParameters(attached),
            args=arguments,
            data_collator=TokenCounter(collate),  # validation rows do not count
            train_dataset=train_rows,
            eval_dataset=validation_rows or None,
        )
        # Our loss is already divided by the answer tokens of the whole accumulation window.
        self.model_accepts_loss_kwargs = True

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This process's part of every batch in the sampler's order, collated in it and brought to its device."""
        on_gpu = self.args.device.type == "cuda"
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,
            batch_sampler=RankBatches(self.sampler, rank=self.world.rank, size=self.world.size),
            collate_fn=self.data_collator,
            pin_memory=on_gpu,
        )
        # One process as far as accelerate knows: it would repeat rows until all parts are of one length.
        prepared: DataLoader[Any] = prepare_data_loader(
            loader, self.args.device, num_processes=1, process_index=0, put_on_device=True, non_blocking=on_gpu
        )
        return prepared

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], int]:
        """The batches of one optimiser step, and the answer tokens in them over all processes.

        Counted from the rows, so no device has to be waited for. In the same message the processes agree to stop.
        """
        batches = list(islice(epoch_iterator, num_batches))
        answers = sum(batch[ANSWERS] for batch in batches)
        total, stopping = self.world.sum(answers, self.cancellation.requested)
        self._stop_agreed = stopping > 0
        return batches, int(total)

    def stopping(self) -> bool:
        """Whether training is to end after the current step; the same in all processes."""
        return self._stop_agreed if self.world.size > 1 else self.cancellation.requested

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        """Parameters with weight decay: all but biases and norms, which are told by the modules they sit in."""
        names: list[str] = super().get_decay_parameter_names(self.attached.model)
        return names

    def collate_by(self, collate: Collate) -> None:
        """Make the batches of training and validation by ``collate`` from now on."""
        self.collate = self.data_collator.collate = collate

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Forward and backward of this process's part of a batch; after a step's last one, gradients are summed.

        Returns:
            the loss, times the number of processes: transformers logs the mean over them.
        """
        if self.world.size == 1:
            return self._run_pieces(model, inputs, num_items_in_batch)
        loss = torch.zeros((), device=self.args.device)
        if len(inputs) > 1:  # else no row of this batch is ours
            loss = self._run_pieces(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            self._sum_gradients()
        return loss * self.world.size

    def _run_pieces(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        """Forward and backward of a batch, piece by piece where it was split; the loss is their sum."""
        loss = torch.zeros((), device=self.args.device)
        for piece in pieces_of(inputs):
            loss = loss + super().training_step(model, piece, num_items_in_batch)
        return loss

    def _sum_gradients(self) -> None:
        """A process without a row in the whole step has no gradients; all have zeros then where others have none."""
        parameters = list(self.attached.parameters().values())
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.world.sum_tensors([parameter.grad for parameter in parameters if parameter.grad is not None])

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
        model = self.attached.model
        was_training = model.training
        model.eval()
        for start in self.world.shared(range(0, len(rows), size)):
            batch = send_to_device(self.collate(rows[start : start + size]), self.args.device, non_blocking=True)
            for piece in pieces_of(batch):
                with self.compute_loss_context_manager():
                    loss, count = answer_loss_sum(model, piece, **self.loss_options)
                total += float(loss)
                tokens += int(count)
        model.train(was_training)
        loss_sum, answers = self.world.sum(total, tokens)
        return loss_sum / max(answers, 1)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """None are counted: transformers' estimate is for training without any saving."""
        return 0

    def store_flos(self) -> None:
        """Nothing to do: it would exchange the counts of all processes, also when only one is saving."""

    # transformers asks for its output folder and then writes `checkpoint-N` into it: here that is a staging folder,
    # which is published by rename once everything is in it.
    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        states = self.world.gather(self._random_states())
        if not self.world.first:
            return
        keep = self.args.save_total_limit or 1
        with publish(self.checkpoint_folder, self.state.global_step, keep=keep) as staging:
            self._staging = staging / "parts"
            super()._save_checkpoint(model, trial)
            parts = self._staging / f"checkpoint-{self.state.global_step}"
            for file in parts.iterdir():
                file.rename(staging / file.name)
            parts.rmdir()
            self._staging.rmdir()
            for name, content in states:
                (staging / name).write_bytes(content)
            write_json_atomic(staging / ROWS, rows_sha256(self.train_dataset, self.eval_dataset or ()))

    def _random_states(self) -> tuple[str, bytes]:
        """Name and content of the file of this process's random states."""
        with TemporaryDirectory() as folder:
            self._save_rng_state(folder)
            (file,) = Path(folder).iterdir()
            return file.name, file.read_bytes()

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
