"""Peak memory of training, predicted before the first step; batches that will not fit are split or refused."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from accelerate.utils import send_to_device

from adapter_exp.data.rendering import TrainingRow
from adapter_exp.engine.head import CHUNK_NUMBERS
from adapter_exp.errors import UserError
from adapter_exp.models.free_memory import free_bytes
from adapter_exp.models.weights import base_tensors, weight_bytes
from adapter_exp.tracking.resources import give_back_free_memory, peak_rss_bytes
from adapter_exp.training.batches import share
from adapter_exp.training.probe import held_bytes, peak_growth
from adapter_exp.training.specs import TrainerConfig
from adapter_exp.training.splitting import Size, Splitting

if TYPE_CHECKING:
    from adapter_exp.training.trainer import AdapterTrainer

# Predictions are to be right within 15 %; activations have to fit with as much more.
MARGIN = 1.15
# A pass may grow towards what is free in few steps; it is not worth measuring again for less than this factor.
_WORTHWHILE = 1.1
# For each roughly counted number, where memory is so ample that a whole batch can be measured at once: 8 times float32.
_AMPLE_BYTES = 32
# Hidden widths that a layer keeps for each token, and copies of the logits: rough, for ranking only.
_LAYER_WIDTHS = 16
_LOGITS = 3
_PAGE = 4096


@dataclass(frozen=True)
class MemoryPlan:
    """What training will hold at its peak.

    Attributes:
        peak_bytes: of the whole process on a CPU, the peak so far included; of all tensors on a CUDA device.
        weights: of the base and of the copies that training keeps of them.
        optimizer: AdamW's moments and the gradients.
        activations: of the largest pass, its gradients on the way and what the heap loses included.
        other: the rest of what is held before training: libraries, data, frozen states, on a CPU.
        rows, tokens: of the largest pass; tokens that the layers run over.
        pieces: most passes that a batch is split into; 1: none is split.
        seconds: that it took to find out.
    """

    peak_bytes: int
    weights: int
    optimizer: int
    activations: int
    other: int
    rows: int
    tokens: int
    pieces: int
    seconds: float

    def notes(self) -> list[str]:
        """Lines to show."""
        parts = (
            (self.weights, "weights"),
            (self.activations, f"activations of {self.rows} rows, {self.tokens} tokens"),
            (self.optimizer, "gradients and optimiser"),
            (self.other, "libraries and data"),
        )
        told = ", ".join(f"{count / 1e9:.2f} GB {what}" for count, what in parts)
        lines = [f"memory: training is predicted to take {sum(n for n, _ in parts) / 1e9:.2f} GB at its peak: {told}."]
        if self.pieces > 1:
            lines.append(
                f"memory: batches that do not fit go through the model in up to {self.pieces} pieces, with the same "
                "gradient; a smaller trainer.batch_size or trainer.activation_checkpointing=true avoids that."
            )
        return lines


@dataclass(frozen=True)
class _Fit:
    """Passes that fit: by how much the largest grows what is held, its rows, and the splitting that makes them."""

    growth: int
    rows: list[TrainingRow]
    splitting: Splitting


def plan_memory(trainer: AdapterTrainer, settings: TrainerConfig, batches: int) -> tuple[MemoryPlan, Splitting]:
    """Predict the peak of a run, and how its batches have to be split to fit.

    To be called where the model is as it will be trained: adapter, fused modules and checkpointing in place.

    Args:
        batches: forward batches of the run.

    Raises:
        UserError: if not even one row fits.
    """
    started = time.perf_counter()
    device, model = trainer.args.device, trainer.attached.model
    mine = list(_batches(trainer, batches)) or [[trainer.train_dataset[0]]]
    trained = list(trainer.attached.parameters().values())
    gradients = sum(parameter.numel() * parameter.element_size() for parameter in trained)
    moments = sum(2 * parameter.numel() * _moment_bytes(settings, parameter) for parameter in trained)
    _touch(model)
    gc.collect()
    was_training = model.training
    model.train()
    fit = _fit(trainer, mine, _rough_size(trainer, settings), gradients + moments)
    model.train(was_training)
    pieces = max(len(fit.splitting.pieces(rows)) for rows in mine)
    if settings.gradient_accumulation_steps == 1 and pieces == 1:
        # Gradients appear while activations go.
        gradients = max(0, gradients - fit.growth)
    give_back_free_memory()
    held = held_bytes(device)
    weights = weight_bytes(model)
    so_far = peak_rss_bytes() if device.type == "cpu" else int(torch.cuda.max_memory_allocated(device))
    plan = MemoryPlan(
        peak_bytes=max(so_far, held + fit.growth + gradients + moments),
        weights=weights,
        optimizer=gradients + moments,
        activations=fit.growth,
        other=max(0, held - weights),
        rows=len(fit.rows),
        tokens=trainer.collate.computed_tokens(fit.rows),
        pieces=pieces,
        seconds=time.perf_counter() - started,
    )
    return plan, fit.splitting


def _fit(trainer: AdapterTrainer, batches: Sequence[Sequence[TrainingRow]], size_of: Size, fixed: int) -> _Fit:
    """The largest passes that fit.

    They grow from one row, so that no measurement takes more than there is; where that is ample, from whole batches.
    """
    whole = max(map(size_of, batches))
    smallest = max(size_of([row]) for rows in batches for row in rows)
    limit = whole if whole * _AMPLE_BYTES < free_bytes(trainer.args.device) - fixed else smallest
    found: _Fit | None = None
    while True:
        splitting = Splitting(trainer.collate, size_of, limit)
        largest = max((piece for rows in batches for piece in splitting.pieces(rows)), key=size_of)
        growth = peak_growth(trainer.attached, trainer.args.device, partial(_loss, trainer, largest))
        give_back_free_memory()
        free = free_bytes(trainer.args.device)
        needed = growth * MARGIN
        if needed > free - fixed:
            if found is not None:
                return found
            if limit <= smallest:
                raise UserError(_refusal(len(largest[0].ids), needed + fixed, free))
            limit = smallest
            continue
        found = _Fit(growth, largest, splitting)
        # A pass takes at most in proportion: much is shared among its rows.
        larger = min(whole, int(limit * (free - fixed) / max(needed, 1)))
        if limit >= whole or larger < min(whole, limit * _WORTHWHILE):
            return found
        limit = larger


def _loss(trainer: AdapterTrainer, rows: Sequence[TrainingRow]) -> torch.Tensor:
    batch = send_to_device(trainer.collate(rows), trainer.args.device)
    with trainer.compute_loss_context_manager():
        return trainer.compute_loss(trainer.attached.model, batch)


def _refusal(tokens: int, needed: float, free: int) -> str:
    return (
        f"trainer.batch_size: not even one row of {tokens} tokens fits, it is predicted to take {needed / 1e9:.2f} GB "
        f"and {free / 1e9:.2f} GB are free; use trainer.activation_checkpointing=true, a smaller model.max_length, an "
        "adapter on the last layers only (adapter.layers=last:4), or quantization=nf4 with quantization.keep=4bit."
    )


def _batches(trainer: AdapterTrainer, count: int) -> Iterator[list[TrainingRow]]:
    """This process's rows of the first ``count`` batches of the run."""
    epoch = 0
    while count > 0:
        for batch in trainer.sampler.batches(epoch)[:count]:
            rows = [trainer.train_dataset[i] for i in share(batch, trainer.world.rank, trainer.world.size)]
            if rows:
                yield rows
            count -= 1
        epoch += 1


def _rough_size(trainer: AdapterTrainer, settings: TrainerConfig) -> Size:
    """Roughly the numbers that a pass over some rows holds: enough to say which of two passes takes more."""
    model = trainer.attached.model
    vocabulary = model.get_output_embeddings().weight.shape[0]
    layers = model.config.num_hidden_layers - (trainer.attached.lowest_layer() or 0)
    widths = layers + _LAYER_WIDTHS if settings.activation_checkpointing else layers * _LAYER_WIDTHS
    collate, width = trainer.collate, model.config.hidden_size

    def size_of(rows: Sequence[TrainingRow]) -> int:
        tokens = logits = collate.computed_tokens(rows)
        if settings.answer_only_logits:  # in portions
            logits = min(sum(len(row.ids) - row.prompt_tokens for row in rows), CHUNK_NUMBERS // vocabulary)
        return int(tokens * widths * width + logits * vocabulary * _LOGITS)

    return size_of


def _moment_bytes(settings: TrainerConfig, parameter: torch.Tensor) -> int:
    return 1 if settings.optimizer == "paged_adamw_8bit" else parameter.element_size()


def _touch(model: torch.nn.Module) -> None:
    """Read a byte of every page of the weights: those of a mapped file count as held from their first use on."""
    for _, tensor in base_tensors(model):
        if tensor.device.type == "cpu" and tensor.is_contiguous():
            tensor.reshape(-1).view(torch.uint8)[::_PAGE].sum()
