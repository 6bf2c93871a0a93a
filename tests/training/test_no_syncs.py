"""The packed step never asks the device for a value: on a GPU each such question waits for all work queued before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from adapters.cases import load_tiny
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data._utils.pin_memory import pin_memory
from training_samples import rows

from adapter_exp.adapters import attach
from adapter_exp.adapters.specs import AdapterSpec, LoraMlpSpec, LoraSpec, MlpSpec
from adapter_exp.engine.frozen import Freezer
from adapter_exp.engine.fused import fused_modules
from adapter_exp.engine.layout import Layout
from adapter_exp.engine.packed import PackedCollator
from adapter_exp.engine.store import StateStore
from adapter_exp.training.loss import answer_loss_sum

LORA, MLP = LoraSpec(r=4), MlpSpec(hidden_dim=8, layers="last:2")
SPECS: dict[str, AdapterSpec] = {"lora": LORA, "mlp": MLP, "lora_mlp": LoraMlpSpec(lora=LORA, mlp=MLP)}
# Operations whose result's shape or value the program has to know before it can go on.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")


class Questions(TorchDispatchMode):
    """Names of the operations that would make the program wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        masks = (
            [index for index in args[1] if index is not None and index.dtype == torch.bool] if name == "index" else []
        )
        if name.startswith(WAITING) or masks:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def step(model: Any, batch: dict[str, Any], *, fused: bool) -> list[str]:
    """What a forward and backward pass asks."""
    model.train()
    with Questions() as questions:
        loss, tokens = answer_loss_sum(model, batch, answer_only_logits=True, fused=fused)
        (loss / 17).backward()
    assert int(tokens) > 0
    return questions.found


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("kind", SPECS)
def test_the_packed_step_asks_nothing(tiny_folder: Path, kind: str, fused: bool):
    model = load_tiny(tiny_folder)
    attached = attach(model, SPECS[kind])
    with fused_modules(model):
        assert step(model, PackedCollator(share_prefix=True)(rows(4)), fused=fused) == []
    attached.detach()


def test_a_step_from_frozen_states_asks_nothing(tiny_folder: Path, tmp_path: Path):
    model = load_tiny(tiny_folder)
    attached = attach(model, MLP)
    made = rows(4)
    freezer = Freezer(model, StateStore(tmp_path, max_bytes=1 << 30), weights_sha256="0" * 64, dtype=torch.float32)
    frozen = freezer.freeze([row.ids for row in made], 2)
    assert step(model, PackedCollator(share_prefix=True, frozen=frozen)(made), fused=True) == []
    attached.detach()


def test_questions_are_found():
    """The tests above can fail: each of these waits."""
    values = torch.arange(4)
    with Questions() as questions:
        values.sum().item()
        values.nonzero()
        values[values > 1]
        bool(values[0])
    assert questions.found == ["_local_scalar_dense", "nonzero", "index", "_local_scalar_dense"]


def test_a_packed_batch_is_pinned_as_a_whole(monkeypatch: pytest.MonkeyPatch):
    """A DataLoader pins dictionaries of tensors, and whatever says how it is pinned."""
    pinned: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
        pinned.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    batch = PackedCollator(share_prefix=True)(rows(3))
    found = pin_memory(batch, None)
    layout: Layout = found["layout"]
    group = layout.groups[-1]
    assert layout is not batch["layout"]
    wanted = [batch["layout"].positions, batch["input_ids"], batch["labels"], batch["predict"]]
    wanted += [part for one in batch["layout"].groups for part in (one.spread, one.gather, one.queries, one.keys)]
    assert {id(tensor) for tensor in wanted} <= {id(tensor) for tensor in pinned}
    assert torch.equal(group.keys, batch["layout"].groups[-1].keys)
    assert layout.rows == batch["layout"].rows
