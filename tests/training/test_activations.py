"""Activation checkpointing runs layers that train twice, layers below them once, and changes no number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from adapters.cases import load_tiny
from training_samples import PAD, rows

from adapter_exp.adapters import attach
from adapter_exp.adapters.specs import AdapterSpec, LoraSpec, MlpSpec
from adapter_exp.engine.packed import PackedCollator
from adapter_exp.training.activations import checkpoint_activations
from adapter_exp.training.batches import Collator
from adapter_exp.training.loss import answer_loss_sum

LAYERS = 4
COLLATES = {"padded": Collator(PAD), "packed": PackedCollator(share_prefix=True)}


@pytest.fixture(scope="module")
def model(tiny_folder) -> Any:
    return load_tiny(tiny_folder)


@contextmanager
def counted(model: Any) -> Iterator[Counter[int]]:
    """Passes through the attention of each layer. A layer's own hooks lie outside of what is run again."""
    passes: Counter[int] = Counter()
    handles = [
        module.register_forward_pre_hook(lambda module, _: passes.update([module.layer_idx]))
        for name, module in model.named_modules()
        if name.endswith("self_attn")
    ]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def loss_and_gradients(
    model: Any, spec: AdapterSpec, collate: Any, *, checkpointing: bool
) -> tuple[float, dict[str, torch.Tensor], Counter[int]]:
    torch.manual_seed(0)
    attached = attach(model, spec, quantization="none")
    try:
        with torch.no_grad():
            for parameter in attached.parameters().values():
                parameter.normal_(std=0.05)  # a fresh adapter's B is 0, and so would be the gradient of its A
        model.train()
        if checkpointing:
            checkpoint_activations(attached)
        torch.manual_seed(1)  # dropout
        with counted(model) as passes:
            loss, _ = answer_loss_sum(model, collate(rows(4)), answer_only_logits=True)
            loss.backward()
        gradients = {name: p.grad.clone() for name, p in attached.parameters().items() if p.grad is not None}
        return loss.item(), gradients, passes
    finally:
        model.activation_checkpointing_disable()
        attached.detach()
        model.eval()


@pytest.mark.parametrize("collate", COLLATES)
@pytest.mark.parametrize(
    ("spec", "twice"),
    [
        (LoraSpec(r=4, dropout=0.1), {0, 1, 2, 3}),
        (LoraSpec(r=4, layers="last:2"), {2, 3}),
        (LoraSpec(r=4, layers=[1, 3]), {1, 2, 3}),
        (MlpSpec(hidden_dim=8, layers="last:2"), {3}),  # behind its block: nothing of layer 2 needs a gradient
    ],
    ids=["lora-all", "lora-last-2", "lora-1-and-3", "mlp-last-2"],
)
def test_only_layers_that_a_gradient_crosses_run_twice(model, spec, twice, collate):
    loss, gradients, passes = loss_and_gradients(model, spec, COLLATES[collate], checkpointing=False)
    assert passes == dict.fromkeys(range(LAYERS), 1)
    again, same, passes = loss_and_gradients(model, spec, COLLATES[collate], checkpointing=True)
    assert passes == {number: 1 + (number in twice) for number in range(LAYERS)}
    assert again == loss
    assert same.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert gradient.abs().max() > 0
        assert torch.equal(same[name], gradient)


def test_frozen_layers_keep_running_as_they_are(model):
    attached = attach(model, LoraSpec(r=4, layers="last:2"), quantization="none")
    try:
        checkpoint_activations(attached)
        marked = [layer.gradient_checkpointing for layer in model.get_decoder().layers]
        assert marked == [False, False, True, True]
    finally:
        model.activation_checkpointing_disable()
        attached.detach()
