"""Dropout: packed rows have masks of their own; a shared prefix has one for all, so it is shared only on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from equality_models import PAD, Bases, Stored, put_on
from torch import Tensor

from adapter_exp.adapters import Attached
from adapter_exp.adapters.specs import AdapterSpec, LoraMlpSpec, LoraSpec, MlpSpec
from adapter_exp.data.rendering import TrainingRow
from adapter_exp.engine.packed import PackedCollator
from adapter_exp.engine.plan import plan_savings
from adapter_exp.engine.specs import SpeedConfig
from adapter_exp.training.batches import Collate, Collator
from adapter_exp.training.loss import answer_loss_sum

P = 0.4
DROPPING: dict[str, AdapterSpec] = {
    "lora": LoraSpec(r=4, dropout=P),
    "dora": LoraSpec(r=4, dropout=P, dora=True),
    "mlp": MlpSpec(hidden_dim=16, dropout=P, activation="gelu"),
    "lora_mlp": LoraMlpSpec(lora=LoraSpec(r=4), mlp=MlpSpec(hidden_dim=16, dropout=P, activation="gelu")),
}
Put = Callable[[AdapterSpec], Attached]
LENGTH, PROMPT = 40, 30
TWICE = [TrainingRow(list(range(LENGTH)), PROMPT, truncated=False)] * 2


@pytest.fixture
def base(bases: Bases) -> Stored:
    return bases.get("llama")


@pytest.fixture
def put(base: Stored) -> Iterator[Put]:
    """Puts an adapter on the shared model, which is bare again after the test, however that ends."""
    with ExitStack() as stack:
        stack.callback(base.model.eval)

        def attach(spec: AdapterSpec) -> Attached:
            attached = put_on(base, spec)
            stack.callback(attached.detach)
            return attached

        yield attach


def dropped(attached: Attached, collate: Collate) -> list[Tensor]:
    """Which inputs each dropout of the model set to 0 in one step, (tokens, width) each."""
    masks: list[Tensor] = []

    def watch(module: torch.nn.Dropout, inputs: tuple[Tensor], output: Tensor) -> None:
        masks.append((output == 0).reshape(-1, output.shape[-1]))

    hooks = [
        module.register_forward_hook(watch)
        for module in attached.model.modules()
        if isinstance(module, torch.nn.Dropout) and module.p > 0
    ]
    attached.model.train()
    torch.manual_seed(1)
    with torch.no_grad():
        answer_loss_sum(attached.model, collate(TWICE), answer_only_logits=False)  # all tokens in the last layer too
    attached.model.eval()
    for hook in hooks:
        hook.remove()
    assert masks
    return masks


@pytest.mark.parametrize("spec", DROPPING.values(), ids=DROPPING)
def test_on_auto_the_prefix_is_not_shared_and_each_row_has_its_own_mask(put: Put, spec: AdapterSpec) -> None:
    attached = put(spec)
    savings = plan_savings(SpeedConfig(), attached)
    assert savings.packed
    assert not savings.shared_prefix
    assert any("shared_prefix" in note and "mask" in note for note in savings.notes)
    for mask in dropped(attached, PackedCollator(share_prefix=savings.shared_prefix)):
        one, other = mask.view(2, LENGTH, -1)
        independent = 2 * P * (1 - P)  # how often two masks differ
        assert abs((one ^ other).float().mean() - independent) < 0.1
        assert abs(mask.float().mean() - P) < 0.1
        assert (one ^ other).any(dim=-1).float().mean() > 0.9  # at all positions, the prompt's too


@pytest.mark.parametrize("spec", DROPPING.values(), ids=DROPPING)
def test_on_always_the_prefix_is_shared_with_its_mask(put: Put, spec: AdapterSpec) -> None:
    attached = put(spec)
    savings = plan_savings(SpeedConfig(shared_prefix="always"), attached)
    assert savings.shared_prefix
    assert not any("shared_prefix" in note for note in savings.notes)
    own = LENGTH - (PROMPT - 1)
    for mask in dropped(attached, PackedCollator(share_prefix=True)):
        assert len(mask) == PROMPT - 1 + 2 * own  # one mask over the prefix, two behind it
        one, other = mask[PROMPT - 1 :].view(2, own, -1)
        assert abs((one ^ other).float().mean() - 2 * P * (1 - P)) < 0.1


@pytest.mark.parametrize("spec", [LoraSpec(r=4), MlpSpec(hidden_dim=8)], ids=["lora", "mlp"])
def test_without_dropout_the_prefix_is_shared_on_auto(put: Put, spec: AdapterSpec) -> None:
    attached = put(spec)
    savings = plan_savings(SpeedConfig(), attached)
    never = plan_savings(SpeedConfig(shared_prefix="never"), attached)
    assert (savings.shared_prefix, savings.notes) == (True, ())
    assert (never.packed, never.shared_prefix) == (True, False)


def test_layers_of_the_base_that_drop_out_are_not_frozen(
    base: Stored, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached = put(LoraSpec(r=4, layers="last:2"))
    assert plan_savings(SpeedConfig(), attached).cut == 2
    monkeypatch.setattr(base.model.config, "attention_dropout", 0.1)
    savings = plan_savings(SpeedConfig(), attached)
    assert (savings.cut, savings.shared_prefix) == (0, False)
    assert any("frozen_cache" in note for note in savings.notes)


def test_dropout_in_evaluation_changes_nothing(base: Stored, put: Put) -> None:
    """In eval mode nothing drops out, and packed rows, prefix shared or not, have the plain loss."""
    put(DROPPING["lora_mlp"])
    collates: list[Any] = [Collator(PAD), PackedCollator(share_prefix=False), PackedCollator(share_prefix=True)]
    with torch.no_grad():
        losses = [float(answer_loss_sum(base.model, c(TWICE), answer_only_logits=True)[0]) for c in collates]
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-6)


@pytest.mark.parametrize("share", [True, False])
def test_the_expected_loss_is_the_plain_one(base: Stored, put: Put, share: bool) -> None:
    """Over many masks, packed rows lose what padded rows lose, the prefix shared or not."""
    put(LoraSpec(r=4, alpha=16, dropout=P))
    base.model.train()
    means, errors = [], []
    for seed, collate in enumerate((Collator(PAD), PackedCollator(share_prefix=share))):
        torch.manual_seed(seed)
        with torch.no_grad():
            batch = collate(TWICE)
            losses = torch.stack([answer_loss_sum(base.model, batch, answer_only_logits=True)[0] for _ in range(60)])
        means.append(losses.mean())
        errors.append(losses.var() / len(losses))
    assert errors[0] > 0
    assert abs(means[1] - means[0]) < 5 * (errors[0] + errors[1]).sqrt()
