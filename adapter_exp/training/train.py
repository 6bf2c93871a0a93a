"""Train an attached adapter: rows in, weights and a report out."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers.trainer_callback import PrinterCallback

from adapter_exp.adapters import Attached
from adapter_exp.adapters.manifest import ADAPTER_FOLDER
from adapter_exp.data.rendering import TrainingRow
from adapter_exp.engine.fused import fused_modules
from adapter_exp.errors import Cancelled
from adapter_exp.parallel.world import ALONE, World
from adapter_exp.training.activations import checkpoint_activations
from adapter_exp.training.arguments import training_arguments
from adapter_exp.training.batches import BucketSampler, Collate, count_tokens
from adapter_exp.training.best import load_best
from adapter_exp.training.cancel import Cancellation
from adapter_exp.training.checkpoints import FOLDER, refuse_other_processes, refuse_other_rows, rows_sha256
from adapter_exp.training.compiling import compiled_layers
from adapter_exp.training.flow import Flow, StepReport, best_index, validation_losses
from adapter_exp.training.memory import MemoryPlan, plan_memory
from adapter_exp.training.specs import TrainerConfig
from adapter_exp.training.trainer import AdapterTrainer


@dataclass(frozen=True)
class TrainingResult:
    """What training did.

    Attributes:
        loss, validation_loss: (step, nats per answer token), the whole run's, also when it was resumed.
        best_step: step whose weights the model now has.
        tokens: of the rows that were trained on.
        computed_tokens: that the layers ran over: with padding, or packed and with a shared prefix once.
        seconds: of this process; ``tokens_per_s`` is over them.
    """

    steps: int
    epochs: float
    loss: list[tuple[int, float]]
    validation_loss: list[tuple[int, float]]
    best_step: int
    tokens: int
    computed_tokens: int
    seconds: float
    tokens_per_s: float


def steps_per_epoch(rows: int, settings: TrainerConfig, processes: int = 1) -> int:
    """Optimiser steps of one pass over ``rows`` rows, of which each process takes ``settings.batch_size`` at a time."""
    batches = math.ceil(rows / (settings.batch_size * processes))
    return math.ceil(batches / settings.gradient_accumulation_steps)


def total_steps(rows: int, settings: TrainerConfig, processes: int = 1) -> int:
    """Optimiser steps of the whole run."""
    return settings.max_steps or max(1, round(settings.epochs * steps_per_epoch(rows, settings, processes)))


def build_trainer(
    attached: Attached,
    rows: Sequence[TrainingRow],
    validation_rows: Sequence[TrainingRow],
    settings: TrainerConfig,
    *,
    seed: int,
    collate: Collate,
    dtype: torch.dtype,
    run_dir: Path,
    save_adapter: Callable[[Path], None],
    cancellation: Cancellation,
    world: World = ALONE,
    fused: bool = False,
) -> AdapterTrainer:
    """What ``train`` trains.

    Args:
        collate: rows to a batch, padded (``batches.Collator``) or packed (``engine.packed.PackedCollator``).
        dtype: the base's compute dtype; ``settings.precision`` may ask for another.
        run_dir: checkpoints go to ``run_dir/checkpoints``.
        save_adapter: writes the adapter in its own format into a folder; checkpoints hold one.
        world: the processes that train together, each on ``settings.batch_size`` rows at a time; only the first one
            writes checkpoints, and all end with the same weights.
        fused: LoRA, norms, loss and optimiser with fewer passes over memory (``engine.fused``, ``engine.head``).
    """
    return AdapterTrainer(
        attached,
        training_arguments(
            settings,
            output_dir=run_dir,
            seed=seed,
            steps=total_steps(len(rows), settings, world.size),
            dtype=autocast_dtype(settings, dtype),
            device=attached.model.device,
            fused=fused,
            processes=world.size,
        ),
        train_rows=rows,
        validation_rows=validation_rows,
        sampler=_sampler(rows, settings, seed, world.size),
        collate=collate,
        answer_only_logits=settings.answer_only_logits,
        fused=fused,
        checkpoint_folder=run_dir / FOLDER,
        save_adapter=save_adapter,
        world=world,
        cancellation=cancellation,
    )


def train(
    trainer: AdapterTrainer,
    settings: TrainerConfig,
    *,
    resume_from: Path | None,
    on_step: Callable[[StepReport], None],
    on_memory: Callable[[MemoryPlan], None] | None = None,
) -> TrainingResult:
    """Train the adapter's parameters in place.

    Args:
        trainer: of ``build_trainer``, made with the same settings.
        resume_from: a verified checkpoint: weights, optimiser, schedule, random states and data position are restored
            from it.
        on_memory: gets the predicted peak before the first step; None: nothing is predicted, no batch is split.

    Raises:
        Cancelled: after a checkpoint was saved, when a stop was requested.
        UserError: if not even one row fits in memory.
        TrainingDiverged: when the loss is no longer finite.
    """
    keep_best = settings.load_best and trainer.eval_dataset is not None
    _steer(trainer, settings, keep_best=keep_best, on_step=on_step)
    _begin(trainer, resume_from)
    started = time.perf_counter()
    if resume_from is None or not trainer.take_up_finished(resume_from, settings.early_stopping_patience):
        with trainer.cancellation.deferred(), _prepared(trainer, settings):
            _run(trainer, settings, resume_from, on_memory)
    if trainer.cancellation.requested or trainer.stopping():
        raise Cancelled(f"training saved at step {trainer.state.global_step}")
    return _result(trainer, settings, time.perf_counter() - started, keep_best=keep_best)


def _begin(trainer: AdapterTrainer, resume_from: Path | None) -> None:
    """Take up a checkpoint's weights, and see that all processes begin alike."""
    world = trainer.world
    if resume_from is not None:
        refuse_other_processes(resume_from, world.size)
        refuse_other_rows(resume_from, rows_sha256(trainer.train_dataset, trainer.eval_dataset or ()))
        trainer.attached.load_weights(resume_from / ADAPTER_FOLDER)
    if world.size > 1:
        _start_alike(trainer.attached, world)
        torch.manual_seed(trainer.args.seed + world.rank)  # rows of different processes drop out different numbers


@contextmanager
def _prepared(trainer: AdapterTrainer, settings: TrainerConfig) -> Iterator[None]:
    """The model as training wants it, for the time of the block."""
    attached = trainer.attached
    with ExitStack() as stack:
        attached.model.train()
        if trainer.fused:
            stack.enter_context(fused_modules(attached.model))
        if settings.compile:
            stack.enter_context(compiled_layers(attached.model, attached.lowest_layer() or 0))
        if settings.activation_checkpointing:
            checkpoint_activations(attached)
            stack.callback(attached.model.activation_checkpointing_disable)
        yield


def _run(
    trainer: AdapterTrainer,
    settings: TrainerConfig,
    resume_from: Path | None,
    on_memory: Callable[[MemoryPlan], None] | None,
) -> None:
    """Predict the peak, let batches that do not fit be split, and train."""
    if on_memory is not None:
        plan, splitting = plan_memory(trainer, settings, _batches(trainer, settings, trainer.args.max_steps))
        trainer.collate_by(splitting)
        on_memory(plan)
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)


def _sampler(rows: Sequence[TrainingRow], settings: TrainerConfig, seed: int, processes: int) -> BucketSampler:
    lengths = [len(row.ids) for row in rows]
    size = settings.batch_size * processes
    return BucketSampler(lengths, batch_size=size, seed=seed, buckets=settings.length_buckets)


def _start_alike(attached: Attached, world: World) -> None:
    """Check that the adapter is the same in all processes: from there on only equal steps are taken.

    Raises:
        RuntimeError: if it is not.
    """
    digest = hashlib.sha256()
    for name, parameter in attached.parameters().items():
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    if len(set(world.gather(digest.hexdigest()))) > 1:
        raise RuntimeError("the adapter differs among the processes before training: other library versions or seeds?")


def _steer(
    trainer: AdapterTrainer,
    settings: TrainerConfig,
    *,
    keep_best: bool,
    on_step: Callable[[StepReport], None],
) -> None:
    """Give the trainer our rules for evaluations, checkpoints, stopping and reports."""
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(
        Flow(
            settings,
            sampler=trainer.sampler,
            steps_per_epoch=steps_per_epoch(len(trainer.sampler), settings, trainer.world.size),
            has_validation=trainer.eval_dataset is not None,
            best_folder=trainer.checkpoint_folder if keep_best and trainer.world.first else None,
            stopping=trainer.stopping,
            counter=trainer.data_collator,
            processes=trainer.world.size,
            on_step=on_step,
        )
    )


def autocast_dtype(settings: TrainerConfig, compute_dtype: torch.dtype) -> torch.dtype:
    """What the forward pass is cast to; float32 means that nothing is cast."""
    chosen = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return chosen.get(settings.precision, compute_dtype)


def _result(trainer: AdapterTrainer, settings: TrainerConfig, seconds: float, *, keep_best: bool) -> TrainingResult:
    state = trainer.state
    validation = validation_losses(state)
    best_step = state.global_step
    if keep_best and validation and validation[best_index(validation)][0] != state.global_step:
        best_step = trainer.world.from_first(lambda: load_best(trainer.attached.model, trainer.checkpoint_folder))
        trainer.world.copy_from_first(list(trainer.attached.parameters().values()))
    counted = trainer.sampler, trainer.train_dataset, trainer.collate
    processes = trainer.world.size
    tokens, computed = count_tokens(*counted, _batches(trainer, settings, state.global_step), processes=processes)
    before, _ = count_tokens(*counted, _batches(trainer, settings, trainer.first_step), processes=processes)
    return TrainingResult(
        steps=state.global_step,
        epochs=float(state.epoch or 0),
        loss=[(int(entry["step"]), entry["loss"]) for entry in state.log_history if "loss" in entry],
        validation_loss=validation,
        best_step=best_step,
        tokens=tokens,
        computed_tokens=computed,
        seconds=seconds,
        tokens_per_s=(tokens - before) / seconds,
    )


def _batches(trainer: AdapterTrainer, settings: TrainerConfig, steps: int) -> int:
    """Forward batches behind ``steps`` optimiser steps; the last step of an epoch may hold fewer."""
    rows, processes = len(trainer.sampler), trainer.world.size
    per_epoch = math.ceil(rows / (settings.batch_size * processes))
    epochs, rest = divmod(steps, steps_per_epoch(rows, settings, processes))
    return epochs * per_epoch + min(rest * settings.gradient_accumulation_steps, per_epoch)
