"""Adapters of different kinds side by side: the order in which they come and go does not matter."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch

from adapter_exp.adapters import attach, load
from adapter_exp.adapters.specs import FullSpec, LoraMlpSpec, LoraSpec, MlpSpec, NoneSpec, SavedSpec
from adapter_exp.errors import UserError

from .cases import BASE, load_tiny, logits, train

SPECS = {
    "lora": LoraSpec(r=4, layers="last:2"),
    "block": MlpSpec(hidden_dim=8, layers="last:2"),
    "inner": MlpSpec(hidden_dim=8, layers="every:3", placement="both"),
    "together": LoraMlpSpec(lora=LoraSpec(r=2), mlp=MlpSpec(hidden_dim=4, placement="feed_forward")),
}


@pytest.fixture(scope="module")
def folders(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, torch.Tensor]]:
    """Each adapter trained alone and saved, with its logits."""
    torch.manual_seed(0)
    model = load_tiny(tiny_folder)
    found = {}
    for name, spec in SPECS.items():
        attached = attach(model, spec)
        train(attached)
        folder = tmp_path_factory.mktemp("saved") / name
        attached.save(folder, base=BASE)
        found[name] = (folder, logits(model))
        attached.detach()
    return found


@pytest.mark.parametrize("order", list(permutations(SPECS)), ids="-".join)
def test_any_order_of_kinds(order: tuple[str, ...], model: Any, folders: Any, tmp_path: Path) -> None:
    base = logits(model)
    on_model = {name: load(model, folders[name][0], name=name, base_sha256=None) for name in order}
    for name in order:
        on_model[order[0]].activate(name)
        assert torch.equal(logits(model), folders[name][1])
        with on_model[name].disabled():
            assert torch.equal(logits(model), base)
    for name in order:  # saved files do not depend on what else is attached
        on_model[name].save(tmp_path / name, base=BASE)
        for file in folders[name][0].rglob("*.safetensors"):
            again = tmp_path / name / file.relative_to(folders[name][0])
            assert again.read_bytes() == file.read_bytes()
    for position, name in enumerate(order[:-1]):
        on_model[name].detach()
        on_model[order[-1]].activate(order[position + 1])
        assert torch.equal(logits(model), folders[order[position + 1]][1])
    on_model[order[-1]].detach()
    assert torch.equal(logits(model), base)


def test_names_are_checked(model: Any) -> None:
    attached = attach(model, SPECS["lora"], name="a-1_b")
    for name in ("a-1_b", "x.y", "x__y", "", "_x"):
        with pytest.raises(ValueError, match="adapter name"):
            attach(model, SPECS["block"], name=name)
    with pytest.raises(UserError, match="a-1_b"):
        attached.activate("other")
    with pytest.raises(UserError, match="no other adapter"):
        attach(model, FullSpec(), name="full")
    attached.detach()


def test_a_saved_spec_is_loaded_not_attached(model: Any) -> None:
    with pytest.raises(ValueError, match="load"):
        attach(model, SavedSpec(path="x"))


def test_an_adapter_that_does_not_fit_leaves_the_model_bare(model: Any) -> None:
    with pytest.raises(UserError) as caught:
        attach(model, LoraSpec(r=100, layers="last:40"))
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["adapter.layers", "adapter.r"]


def test_none_changes_nothing_and_is_saved_as_a_manifest(model: Any, tmp_path: Path) -> None:
    base = logits(model)
    attached = attach(model, NoneSpec())
    assert (attached.trainable_parameters(), attached.lowest_layer(), attached.parameters()) == (0, None, {})
    with attached.disabled():
        assert torch.equal(logits(model), base)
    attached.save(tmp_path / "none", base=BASE)
    attached.detach()
    assert load(model, tmp_path / "none", base_sha256=BASE["sha256"]).spec == NoneSpec()
    assert torch.equal(logits(model), base)
