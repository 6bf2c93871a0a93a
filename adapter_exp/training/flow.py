"""When to evaluate, save, stop and report while the Trainer runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from adapter_exp.training.batches import BucketSampler, TokenCounter
from adapter_exp.training.best import save_best
from adapter_exp.training.specs import TrainerConfig


class TrainingDiverged(RuntimeError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class StepReport:
    """One point of the loss curve: ``validation`` tells whether the loss is over the validation rows."""

    step: int
    total_steps: int
    loss: float
    tokens_per_s: float = 0.0
    validation: bool = False


class Flow(TrainerCallback):
    """Steers one run.

    Args:
        settings: evaluation, save and stopping rules.
        steps_per_epoch: optimiser steps of a full pass.
        best_folder: where the weights of the lowest validation loss go, or None to keep none.
        stopping: whether training is to end after this step, with a checkpoint.
        processes: that train together; ``counter`` counts this one's tokens.
    """

    def __init__(
        self,
        settings: TrainerConfig,
        *,
        sampler: BucketSampler,
        steps_per_epoch: int,
        has_validation: bool,
        best_folder: Path | None,
        stopping: Callable[[], bool],
        counter: TokenCounter,
        processes: int,
        on_step: Callable[[StepReport], None],
    ) -> None:
        self.settings = settings
        self.sampler = sampler
        self.steps_per_epoch = steps_per_epoch
        self.has_validation = has_validation
        self.best_folder = best_folder
        self.stopping = stopping
        self.counter = counter
        self.processes = processes
        self.on_step = on_step
        self.started = time.perf_counter()

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Give the epoch's row order: accelerate's skipping loader does not reach the sampler on resume."""
        self.sampler.set_epoch(state.global_step // self.steps_per_epoch)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        """Decide about evaluation, checkpoint and an early end after an optimiser step."""
        step, last = state.global_step, state.global_step >= state.max_steps
        if self.has_validation:
            control.should_evaluate = last or step % (self.settings.eval_steps or self.steps_per_epoch) == 0
        control.should_save = last or step % (self.settings.save_steps or self.steps_per_epoch) == 0
        if self.stopping():  # an evaluation that is due is taken: the resumed run would lack it
            control.should_save, control.should_training_stop = True, True
        return control

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Pass a training loss on.

        Raises:
            TrainingDiverged: when it is not finite.
        """
        if logs is None or "loss" not in logs:
            return
        loss = logs["loss"]
        speed = self.processes * self.counter.tokens / (time.perf_counter() - self.started)
        self.on_step(StepReport(state.global_step, state.max_steps, loss, tokens_per_s=speed))
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"the loss is {loss} at step {state.global_step}; lower trainer.learning_rate "
                f"({self.settings.learning_rate}) or raise trainer.warmup_ratio ({self.settings.warmup_ratio})"
            )

    def on_evaluate(
        self, args: Any, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **kwargs: Any
    ) -> TrainerControl:
        """Keep the best weights; stop when the validation loss has not improved for long enough."""
        losses = validation_losses(state)
        self.on_step(StepReport(state.global_step, state.max_steps, metrics["eval_loss"], validation=True))
        best = best_index(losses)
        if best == len(losses) - 1 and self.best_folder is not None:
            save_best(kwargs["model"], self.best_folder, state.global_step)
        if out_of_patience(losses, self.settings.early_stopping_patience):
            control.should_training_stop = True
            control.should_save = True
        return control


def validation_losses(state: TrainerState) -> list[tuple[int, float]]:
    """(step, loss) of every evaluation so far, a resumed run's earlier ones included."""
    return [(int(entry["step"]), entry["eval_loss"]) for entry in state.log_history if "eval_loss" in entry]


def out_of_patience(losses: list[tuple[int, float]], patience: int | None) -> bool:
    """Whether the last ``patience`` evaluations all failed to improve on the lowest loss."""
    return patience is not None and len(losses) > 0 and len(losses) - 1 - best_index(losses) >= patience


def best_index(losses: list[tuple[int, float]]) -> int:
    """Index of the lowest loss, the earliest of equals."""
    return min(range(len(losses)), key=lambda i: losses[i][1])
