"""A training run that was interrupted ends with the bits of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapters.cases import load_tiny
from training_samples import Trained, rows, run, settings

from adapter_exp.adapters.specs import LoraMlpSpec, LoraSpec, MlpSpec
from adapter_exp.errors import Cancelled, UserError
from adapter_exp.training.cancel import Cancellation
from adapter_exp.training.checkpoints import newest_checkpoint
from adapter_exp.training.flow import StepReport
from adapter_exp.training.specs import TrainerConfig

LORA = LoraSpec(r=4, alpha=8, dropout=0.1)
BOTH = LoraMlpSpec(lora=LORA, mlp=MlpSpec(hidden_dim=8, dropout=0.1, layers="last:2"))
# 26 rows in batches of 4: the last batch of an epoch is short, and so is its last accumulation window.
ROWS = rows(26)
STEPS = 8


def _settings(**changes: Any) -> TrainerConfig:
    values = {"gradient_accumulation_steps": 2, "length_buckets": True, "save_steps": 3, "epochs": 2}
    return settings(**(values | changes))


@pytest.fixture(scope="module")
def models(tiny_folder: Path) -> dict[str, Any]:
    """One bare model for each quantisation; every run puts a fresh adapter on it and takes it off again."""
    return {"none": load_tiny(tiny_folder), "nf4": load_tiny(tiny_folder, "nf4")}


def cut_and_go_on(model: Any, run_dir: Path, config: TrainerConfig, step: int, **options: Any) -> Trained:
    """Ask for a stop during ``step`` as a signal would, then go on from the checkpoint with other random states."""
    cancellation = Cancellation()

    def ask(report: StepReport) -> None:
        cancellation.requested = cancellation.requested or report.step >= step - 1

    if step == 1:
        cancellation.requested = True
    with pytest.raises(Cancelled):
        run(model, run_dir, config, cancellation=cancellation, on_step=ask, **options)
    checkpoint = newest_checkpoint(run_dir)
    assert checkpoint is not None
    assert checkpoint.name == f"step-{step}"
    torch.manual_seed(99)
    return run(model, run_dir, config, resume_from=checkpoint, **options)


def assert_same(resumed: Trained, straight: Trained) -> None:
    assert resumed.result is not None
    assert straight.result is not None
    assert resumed.result.loss == straight.result.loss
    assert resumed.result.validation_loss == straight.result.validation_loss
    assert resumed.result.best_step == straight.result.best_step
    assert (resumed.result.tokens, resumed.result.computed_tokens) == (
        straight.result.tokens,
        straight.result.computed_tokens,
    )
    assert resumed.same_weights(straight)


@pytest.mark.parametrize(
    ("quantization", "spec", "changes"),
    [
        ("nf4", BOTH, {"save_steps": 3, "eval_steps": 2}),
        pytest.param("nf4", LORA, {"save_steps": 1}, marks=pytest.mark.slow),
        pytest.param("none", LORA, {"activation_checkpointing": True}, marks=pytest.mark.slow),
    ],
    ids=["nf4-lora_mlp", "nf4-lora", "fp32-checkpointing"],
)
def test_cut_at_every_step(models, tmp_path, quantization, spec, changes):
    options = {
        "spec": spec,
        "quantization": quantization,
        "train_rows": ROWS,
        "validation_rows": rows(5, seed=1),
    }
    config = _settings(**changes)
    straight = run(models[quantization], tmp_path / "straight", config, **options)
    assert straight.result is not None
    assert straight.result.steps == STEPS
    assert [step for step, _ in straight.result.loss] == list(range(1, STEPS + 1))
    for step in range(1, STEPS + 1):
        resumed = cut_and_go_on(models[quantization], tmp_path / f"cut-{step}", config, step, **options)
        assert_same(resumed, straight)


def test_a_run_that_stops_in_mid_epoch_ends_there_again(models, tmp_path):
    """Going on from the checkpoint of the last step must not train one step more."""
    config = _settings(max_steps=3, save_steps=1)
    straight = run(models["none"], tmp_path, config, train_rows=ROWS)
    resumed = run(models["none"], tmp_path, config, train_rows=ROWS, resume_from=newest_checkpoint(tmp_path))
    assert_same(resumed, straight)
    assert resumed.reports == []


def test_an_early_stop_holds_after_an_interruption(models, tmp_path):
    """A run killed while its trained adapter was scored has stopped training; going on must not take it up again."""
    config = _settings(
        epochs=20, learning_rate=0.3, scheduler="constant", eval_steps=1, early_stopping_patience=2, save_steps=50
    )
    options = {"train_rows": ROWS, "validation_rows": rows(5, seed=1)}
    straight = run(models["none"], tmp_path, config, **options)
    assert straight.result is not None
    assert straight.result.steps < 20 * 4
    resumed = run(models["none"], tmp_path, config, resume_from=newest_checkpoint(tmp_path), **options)
    assert_same(resumed, straight)


@pytest.mark.parametrize("file", ["optimizer.pt", "rng_state.pth", "adapter/adapter_model.safetensors"])
def test_a_damaged_checkpoint_is_refused(models, tmp_path, file):
    run(models["none"], tmp_path, _settings(max_steps=2, save_steps=1), train_rows=ROWS)
    damaged = tmp_path / "checkpoints" / "step-2" / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(UserError) as caught:
        newest_checkpoint(tmp_path)
    assert str(damaged) in str(caught.value)
    assert len(caught.value.faults) == 1


def test_other_rows_are_refused(models, tmp_path):
    config = settings(max_steps=2, save_steps=1)
    run(models["none"], tmp_path, config)
    with pytest.raises(UserError, match=r"trained on other data.*resume=never"):
        run(models["none"], tmp_path, config, train_rows=ROWS[:-1], resume_from=newest_checkpoint(tmp_path))
