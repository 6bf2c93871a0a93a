"""Training: settings that must not change the result do not, and the others do what they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters.cases import base_tensors, load_tiny
from training_samples import Trained, rows, run, settings

from adapter_exp.adapters.specs import LoraSpec, MlpSpec
from adapter_exp.data.rendering import TrainingRow
from adapter_exp.training.batches import Collator
from adapter_exp.training.flow import TrainingDiverged

VALIDATION = rows(7, seed=1)
# Sums over other batch shapes differ in the last bits of float32, and AdamW divides by small numbers: after 4 steps
# of learning rate 1e-2 the weights have moved by some 1e-2, and differences stay below a thousandth of that.
WEIGHT_TOLERANCE = 1e-5
LOSS_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def models(tiny_folder: Path) -> dict[str, Any]:
    """One bare model for each quantisation; every run puts a fresh adapter on it and takes it off again."""
    return {"none": load_tiny(tiny_folder), "nf4": load_tiny(tiny_folder, "nf4")}


@pytest.fixture
def model(models: dict[str, Any]) -> Any:
    return models["none"]


def assert_alike(one: Trained, other: Trained, *, tolerance: float = WEIGHT_TOLERANCE) -> None:
    assert one.result is not None
    assert other.result is not None
    assert [step for step, _ in one.result.loss] == [step for step, _ in other.result.loss]
    differences = [a - b for (_, a), (_, b) in zip(one.result.loss, other.result.loss, strict=True)]
    assert max(map(abs, differences)) < LOSS_TOLERANCE
    assert one.furthest(other) < tolerance


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_batch_and_accumulation_are_one_number(models, tmp_path, quantization):
    """8 x 1 = 4 x 2 = 1 x 8 with answers of different lengths: every answer token of a step weighs the same."""
    runs = [
        run(
            models[quantization],
            tmp_path / f"{size}x{accumulation}",
            settings(batch_size=size, gradient_accumulation_steps=accumulation, length_buckets=False),
            quantization=quantization,
            validation_rows=VALIDATION,
        )
        for size, accumulation in ((8, 1), (4, 2), (1, 8))
    ]
    assert len(runs[0].result.loss) == 4
    assert runs[0].furthest(_untrained(models[quantization], tmp_path, quantization)) > 1e-2
    for other in runs[1:]:
        assert_alike(runs[0], other)
        # The validation loss is a mean over tokens, whatever the batches.
        for (_, a), (_, b) in zip(runs[0].result.validation_loss, other.result.validation_loss, strict=True):
            assert a == pytest.approx(b, abs=LOSS_TOLERANCE)


def _untrained(model: Any, tmp_path: Path, quantization: str) -> Trained:
    return run(
        model,
        tmp_path / "none",
        settings(max_steps=1, learning_rate=1e-12),
        quantization=quantization,
        train_rows=rows(2),
    )


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize(
    ("switch", "spec"),
    [
        ("answer_only_logits", LoraSpec(r=4)),
        ("activation_checkpointing", LoraSpec(r=4, dropout=0.1)),
        ("activation_checkpointing", MlpSpec(hidden_dim=8, layers="last:2", dropout=0.1)),
    ],
    ids=["logits", "checkpointing-lora", "checkpointing-mlp"],
)
def test_switches_that_save_work_change_nothing(models, tmp_path, quantization, switch, spec):
    on, off = (
        run(
            models[quantization],
            tmp_path / str(value),
            settings(max_steps=3, **{switch: value}),
            spec=spec,
            quantization=quantization,
            validation_rows=VALIDATION,
        )
        for value in (True, False)
    )
    assert_alike(on, off)


@pytest.mark.parametrize("buckets", [True, False])
def test_every_row_is_trained_on_once_an_epoch(model, tmp_path, monkeypatch, buckets):
    made = rows(18)
    seen: list[TrainingRow] = []
    collate = Collator.__call__

    def watch(self: Any, batch: Any) -> Any:
        seen.extend(batch)
        return collate(self, batch)

    monkeypatch.setattr(Collator, "__call__", watch)
    trained = run(model, tmp_path, settings(epochs=2, length_buckets=buckets), train_rows=made)
    for epoch in (seen[:18], seen[18:]):
        assert sorted(row.ids for row in epoch) == sorted(row.ids for row in made)
    assert [row.ids for row in seen[:18]] != [row.ids for row in seen[18:]]
    assert trained.result.tokens == 2 * sum(len(row.ids) for row in made)
    assert trained.result.epochs == pytest.approx(2)


def test_buckets_save_padding(model, tmp_path):
    made = rows(32, longest=60)
    padded = {
        value: run(
            model, tmp_path / str(value), settings(epochs=1, length_buckets=value), train_rows=made
        ).result.computed_tokens
        for value in (True, False)
    }
    assert padded[True] < 0.85 * padded[False]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_backward_below_the_lowest_adapter(model, tmp_path, checkpointing):
    visited: set[int] = set()
    layers = model.get_decoder().layers
    handles = [
        layer.register_full_backward_hook(lambda _, __, ___, number=number: visited.add(number))
        for number, layer in enumerate(layers)
    ]
    wants_gradient: set[bool] = set()
    embeddings = model.get_input_embeddings()
    handles.append(embeddings.register_forward_hook(lambda _, __, out: wants_gradient.add(out.requires_grad)))
    try:
        run(
            model,
            tmp_path,
            settings(max_steps=2, activation_checkpointing=checkpointing),
            spec=LoraSpec(r=4, layers="last:2"),
        )
    finally:
        for handle in handles:
            handle.remove()
    assert visited == {2, 3}
    assert wants_gradient == {False}


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_only_the_adapter_changes_and_the_model_is_left_as_found(models, tmp_path, quantization):
    model = models[quantization]
    before, forward = base_tensors(model), model.forward
    trained = run(
        model,
        tmp_path,
        settings(max_steps=2, activation_checkpointing=True, precision="bf16"),
        quantization=quantization,
    )
    after = base_tensors(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all("lora_" in name for name in trained.weights)
    assert all(bool(value.abs().sum() > 0) for value in trained.weights.values())
    assert model.forward == forward  # accelerate's autocast would follow the base into the next job
    assert not model.is_activation_checkpointing


def test_precision_is_obeyed(model, tmp_path):
    """The loss goes past ``model.forward``, where accelerate puts its autocast."""

    def dtype_of(precision: str, answer_only: bool) -> torch.dtype:
        found: list[torch.dtype] = []
        hook = model.get_decoder().layers[0].mlp.register_forward_hook(lambda _, __, out: found.append(out.dtype))
        try:
            run(
                model,
                tmp_path / f"{precision}-{answer_only}",
                settings(max_steps=1, precision=precision, answer_only_logits=answer_only),
            )
        finally:
            hook.remove()
        return found[0]

    assert dtype_of("auto", True) == torch.float32
    assert dtype_of("bf16", True) == torch.bfloat16
    assert dtype_of("bf16", False) == torch.bfloat16


def test_the_best_weights_are_loaded_and_early_stopping_stops(model, tmp_path):
    """Training on other answers than the validation rows': the validation loss falls at first, then rises."""
    config = settings(epochs=30, learning_rate=0.1, scheduler="constant", eval_steps=2, early_stopping_patience=3)
    stopped = run(model, tmp_path / "stopped", config, validation_rows=VALIDATION)
    losses = stopped.result.validation_loss
    best_step, best_loss = min(losses, key=lambda point: point[1])
    assert losses[-1][1] > best_loss
    assert stopped.result.steps == losses[-1][0] == best_step + 3 * 2 < 30 * 4
    assert stopped.result.best_step == best_step
    short = run(
        model, tmp_path / "short", config.model_copy(update={"max_steps": best_step}), validation_rows=VALIDATION
    )
    assert short.result.best_step == best_step
    assert stopped.same_weights(short)


def test_the_last_weights_are_kept_when_asked_for(model, tmp_path):
    config = settings(max_steps=8, learning_rate=0.1, scheduler="constant", eval_steps=1)
    best, last = (
        run(model, tmp_path / str(value), config.model_copy(update={"load_best": value}), validation_rows=VALIDATION)
        for value in (True, False)
    )
    assert best.result.best_step < 8
    assert last.result.best_step == 8
    assert not best.same_weights(last)


def test_a_loss_that_is_no_number_ends_training(model, tmp_path):
    def poison(attached: Any) -> None:
        with torch.no_grad():
            next(iter(attached.parameters().values())).fill_(float("nan"))

    with pytest.raises(TrainingDiverged, match=r"loss is nan at step 1; lower trainer.learning_rate \(0.01\)"):
        run(model, tmp_path, settings(), prepare=poison)
    assert not list((tmp_path / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant"])
def test_learning_rate_schedule(model, tmp_path, scheduler, monkeypatch):
    """Linear warm-up over a quarter of 8 steps, then the schedule's formula (Loshchilov & Hutter 2017, eq. 5)."""
    rates: list[float] = []
    step = torch.optim.AdamW.step

    def watch(self: Any, *args: Any, **kwargs: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    run(model, tmp_path, settings(scheduler=scheduler, warmup_ratio=0.25))
    after = {
        "cosine": [0.5 * (1 + math.cos(math.pi * n / 6)) for n in range(6)],
        "linear": [1 - n / 6 for n in range(6)],
        "constant": [1.0] * 6,
    }[scheduler]
    assert rates == pytest.approx([1e-2 * share for share in (0, 0.5, *after)])


def test_what_is_reported(model, tmp_path):
    trained = run(model, tmp_path, settings(eval_steps=3), validation_rows=VALIDATION)
    training = [(report.step, report.loss) for report in trained.reports if not report.validation]
    validation = [(report.step, report.loss) for report in trained.reports if report.validation]
    assert training == trained.result.loss
    assert [step for step, _ in training] == list(range(1, 9))
    assert validation == trained.result.validation_loss
    assert [step for step, _ in validation] == [3, 6, 8]
    assert {report.total_steps for report in trained.reports} == {8}
    assert trained.result.tokens_per_s == pytest.approx(trained.result.tokens / trained.result.seconds)
    first = math.log(261)  # a random model's cross-entropy is near that of a uniform guess over its vocabulary
    assert trained.result.loss[0][1] == pytest.approx(first, abs=0.3)
    assert trained.result.loss[-1][1] < trained.result.loss[0][1]


def test_equal_seeds_give_equal_bits(model, tmp_path):
    spec = LoraSpec(r=4, dropout=0.1)
    one, same, other = (
        run(model, tmp_path / str(number), settings(max_steps=3), spec=spec, seed=seed)
        for number, seed in enumerate((5, 5, 6))
    )
    assert one.result.loss == same.result.loss
    assert one.same_weights(same)
    assert not one.same_weights(other)
