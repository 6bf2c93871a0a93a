"""Rows to train on, and one call that trains a fresh adapter on them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from adapter_exp.adapters import Attached, attach
from adapter_exp.adapters.specs import AdapterSpec, LoraSpec
from adapter_exp.data.rendering import TrainingRow
from adapter_exp.parallel.world import ALONE, World
from adapter_exp.training.batches import Collate, Collator
from adapter_exp.training.cancel import Cancellation
from adapter_exp.training.flow import StepReport
from adapter_exp.training.memory import MemoryPlan
from adapter_exp.training.specs import TrainerConfig
from adapter_exp.training.train import TrainingResult, build_trainer, train

BASE = {"name": "tiny", "sha256": "0" * 64}
PAD = 257


def rows(count: int, *, seed: int = 0, longest: int = 24) -> list[TrainingRow]:
    """Random rows of 8 to ``longest`` tokens, the last 2 to 5 of them supervised."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        length = draw.randint(8, longest)
        ids = [draw.randrange(256) for _ in range(length)]
        made.append(TrainingRow(ids, length - draw.randint(2, 5), truncated=False))
    return made


def settings(**changes: Any) -> TrainerConfig:
    """Eight steps on 16 rows, without warm-up."""
    values: dict[str, Any] = {
        "epochs": 2,
        "batch_size": 4,
        "gradient_accumulation_steps": 1,
        "warmup_ratio": 0.0,
        "learning_rate": 1e-2,
    }
    return TrainerConfig.model_validate(values | changes)


@dataclass
class Trained:
    """What one training run left behind: copies, so that the model can be used again."""

    result: TrainingResult | None
    weights: dict[str, torch.Tensor]
    reports: list[StepReport] = field(default_factory=list)

    def same_weights(self, other: Trained) -> bool:
        """Whether all weights are equal bit for bit."""
        return self.weights.keys() == other.weights.keys() and all(
            torch.equal(value, other.weights[name]) for name, value in self.weights.items()
        )

    def furthest(self, other: Trained) -> float:
        """The largest difference between two weights."""
        return max(float((value - other.weights[name]).abs().max()) for name, value in self.weights.items())


def run(
    model: Any,
    run_dir: Path,
    config: TrainerConfig,
    *,
    spec: AdapterSpec | None = None,
    quantization: str = "none",
    train_rows: Sequence[TrainingRow] | None = None,
    validation_rows: Sequence[TrainingRow] = (),
    resume_from: Path | None = None,
    cancellation: Cancellation | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 3,
    collate: Collate | None = None,
    fused: bool = False,
    prepare: Callable[[Attached], None] = lambda attached: None,
    on_step: Callable[[StepReport], None] = lambda report: None,
    on_memory: Callable[[MemoryPlan], None] | None = None,
    world: World = ALONE,
) -> Trained:
    """Attach, train and detach; what ended training early is raised after the adapter is off again."""
    torch.manual_seed(seed)
    attached = attach(model, spec or LoraSpec(r=4, alpha=8), quantization=quantization)
    reports: list[StepReport] = []

    def report(step: StepReport) -> None:
        reports.append(step)
        on_step(step)

    try:
        prepare(attached)
        trainer = build_trainer(
            attached,
            rows(16) if train_rows is None else train_rows,
            validation_rows,
            config,
            seed=seed,
            collate=collate or Collator(PAD),
            dtype=dtype,
            run_dir=run_dir,
            save_adapter=lambda folder: attached.save(folder, base=BASE),
            cancellation=cancellation or Cancellation(),
            world=world,
            fused=fused,
        )
        result = train(trainer, config, resume_from=resume_from, on_step=report, on_memory=on_memory)
        weights = {name: value.detach().clone() for name, value in attached.parameters().items()}
    finally:
        attached.detach()
        model.eval()
    return Trained(result, weights, reports)
