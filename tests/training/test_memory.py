"""Memory of training: predicted before the first step, batches split where it is short, refused where nothing helps."""

from __future__ import annotations

from typing import Any

import pytest
from adapters.cases import load_tiny
from training_samples import PAD, Trained, rows, run, settings

from adapter_exp.adapters.specs import LoraSpec
from adapter_exp.engine.packed import PackedCollator
from adapter_exp.errors import UserError
from adapter_exp.training import memory
from adapter_exp.training.batches import Collator
from adapter_exp.training.memory import MemoryPlan
from adapter_exp.training.splitting import PIECES, Splitting

COLLATES = {"padded": Collator(PAD), "packed": PackedCollator(share_prefix=True)}
ROWS = rows(12, longest=120)
# After 3 steps of learning rate 1e-2; AdamW divides by gradients that are nothing but rounding at first.
WEIGHT_TOLERANCE = 5e-5


@pytest.fixture(scope="module")
def model(tiny_folder) -> Any:
    return load_tiny(tiny_folder)


@pytest.fixture
def short_of_memory(monkeypatch):
    """Pretend that a batch takes 1 MB for each of its tokens."""

    def pretend(free_mb: int) -> None:
        monkeypatch.setattr(memory, "free_bytes", lambda device: free_mb * 10**6)
        monkeypatch.setattr(memory, "peak_growth", lambda attached, device, step: _tokens(step) * 10**6)

    return pretend


def _tokens(step: Any) -> int:
    trainer, taken = step.args
    return trainer.collate.computed_tokens(taken)


def trained(
    model: Any, tmp_path: Any, collate: str, *, plans: list[MemoryPlan] | None = None, **changes: Any
) -> Trained:
    return run(
        model,
        tmp_path,
        settings(max_steps=3, **changes),
        train_rows=ROWS,
        validation_rows=ROWS[:5],
        collate=COLLATES[collate],
        spec=LoraSpec(r=4),
        on_memory=None if plans is None else plans.append,
    )


@pytest.mark.parametrize("collate", COLLATES)
def test_split_batches_train_the_same_adapter(model, tmp_path, short_of_memory, collate):
    whole = trained(model, tmp_path / "whole", collate)
    plans: list[MemoryPlan] = []
    short_of_memory(200)
    split = trained(model, tmp_path / "split", collate, plans=plans)
    (plan,) = plans
    assert 2 <= plan.pieces <= 4
    assert plan.activations * memory.MARGIN <= 200e6
    assert any("pieces" in line for line in plan.notes())
    for (_, one), (_, other) in zip(whole.result.loss, split.result.loss, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    for (_, one), (_, other) in zip(whole.result.validation_loss, split.result.validation_loss, strict=True):
        assert one == pytest.approx(other, abs=1e-5)
    assert whole.furthest(split) < WEIGHT_TOLERANCE


def test_a_batch_that_fits_is_left_whole(model, tmp_path, short_of_memory):
    plans: list[MemoryPlan] = []
    short_of_memory(10_000)
    trained(model, tmp_path, "padded", plans=plans)
    assert plans[0].pieces == 1
    assert plans[0].rows == 4
    assert len(plans[0].notes()) == 1


def test_not_even_one_row_fits(model, tmp_path, short_of_memory):
    short_of_memory(100)
    with pytest.raises(UserError, match=r"trainer.batch_size: not even one row of \d+ tokens .* 0\.10 GB are free"):
        trained(model, tmp_path, "packed", plans=[])


def test_prediction_changes_no_number(model, tmp_path):
    """Measuring draws no random number of the run and leaves no gradient."""
    plain, predicted = (
        run(
            model,
            tmp_path / str(plans),
            settings(max_steps=3),
            train_rows=ROWS,
            collate=COLLATES["padded"],
            spec=LoraSpec(r=4, dropout=0.1),
            on_memory=None if plans is None else plans.append,
        )
        for plans in (None, [])
    )
    assert plain.result.loss == predicted.result.loss
    assert plain.same_weights(predicted)


def test_the_largest_pass_is_measured(model, tmp_path):
    plans: list[MemoryPlan] = []
    trained(model, tmp_path, "padded", plans=plans, batch_size=3)
    (plan,) = plans
    longest = max(len(row.ids) for row in ROWS)
    assert plan.rows == 3
    assert plan.tokens == 3 * longest
    assert plan.peak_bytes >= plan.weights + plan.activations + plan.optimizer + plan.other


def test_pieces_hold_all_rows_in_order_within_the_limit():
    made = rows(9, longest=40)
    collate = Splitting(Collator(PAD), Collator(PAD).computed_tokens, limit=70)
    pieces = collate.pieces(made)
    assert [row for piece in pieces for row in piece] == made
    assert all(len(piece) == 1 or Collator(PAD).computed_tokens(piece) <= 70 for piece in pieces)
    assert collate.computed_tokens(made) == sum(Collator(PAD).computed_tokens(piece) for piece in pieces)
    batch = collate(made)
    assert len(batch[PIECES]) == len(pieces) > 1
    assert "input_ids" in collate(made[:1])
