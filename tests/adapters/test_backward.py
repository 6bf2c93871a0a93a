"""Nothing below the lowest adapter takes part in the backward pass."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_exp.adapters import attach
from adapter_exp.adapters.specs import LoraMlpSpec, LoraSpec, MlpSpec

from .cases import loss

LAST_TWO = [
    LoraSpec(r=4, layers="last:2"),
    MlpSpec(hidden_dim=8, layers="last:2"),
    MlpSpec(hidden_dim=8, layers="last:2", placement="both", mode="parallel", init="normal"),
    LoraMlpSpec(lora=LoraSpec(r=4, layers="last:1"), mlp=MlpSpec(hidden_dim=8, layers="last:2")),
]


@pytest.mark.parametrize("spec", LAST_TWO, ids=lambda spec: spec.kind)
def test_layers_below_the_lowest_adapter_see_no_backward(spec: Any, model: Any) -> None:
    attached = attach(model, spec)
    outputs: dict[int, Any] = {}
    visited: set[int] = set()
    handles = []
    for number, layer in enumerate(model.get_decoder().layers):
        handles.append(layer.register_forward_hook(lambda _, __, out, number=number: outputs.update({number: out})))
        handles.append(layer.register_full_backward_hook(lambda _, __, ___, number=number: visited.add(number)))
    model.train()
    value = loss(model)
    wants_gradient = {number for number, output in outputs.items() if output.requires_grad}
    value.backward()
    lowest = attached.lowest_layer()
    for handle in handles:
        handle.remove()
    model.zero_grad()
    model.eval()
    attached.detach()
    assert lowest == 2
    assert wants_gradient == {2, 3}
    assert visited == {2, 3}
