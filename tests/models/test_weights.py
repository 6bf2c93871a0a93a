"""The identity of base weights: blind to adapters, sensitive to every bit."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter_exp.models.base import load_base, release_base
from adapter_exp.models.specs import QuantizationConfig, TinyModel
from adapter_exp.models.weights import base_tensors, weight_bytes, weights_sha256


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=["none", "nf4 4bit", "nf4 dequantised", "int8 auto"])
def model(request: pytest.FixtureRequest, cache_dir: Path):
    kind, _, keep = request.param.partition(" ")
    quantization = QuantizationConfig(kind=kind, keep=keep or "auto")
    yield load_base(TinyModel(), quantization, cache_dir=cache_dir, device="cpu").model
    release_base()


def _lora():
    from peft import LoraConfig

    return LoraConfig(r=2, target_modules=["q_proj", "down_proj"], use_dora=False)


def test_attaching_and_detaching_leave_no_trace(model):
    from peft import get_peft_model, inject_adapter_in_model

    before, size = weights_sha256(model), weight_bytes(model)
    wrapped = get_peft_model(model, _lora())
    assert weights_sha256(wrapped) == before and weight_bytes(wrapped) == size
    bare = wrapped.unload()
    assert weights_sha256(bare) == before
    assert weights_sha256(inject_adapter_in_model(_lora(), bare)) == before


def test_names_are_those_of_the_bare_model(model):
    from peft import get_peft_model

    names = [name for name, _ in base_tensors(model)]
    assert names == [name for name, _ in base_tensors(get_peft_model(model, _lora()))]
    assert "model.layers.0.self_attn.q_proj.weight" in names


def test_every_stored_tensor_counts_to_the_bit(model):
    import torch

    before = weights_sha256(model)
    for name, tensor in base_tensors(model):
        if "quant_state" in name or "nested_quant_map" in name:  # packed anew at each call: a copy
            continue
        flat = tensor.reshape(-1).view(torch.uint8)
        flat[-1] ^= 1
        assert weights_sha256(model) != before, name
        flat[-1] ^= 1
    assert weights_sha256(model) == before


def test_training_an_adapter_keeps_the_hash_and_changing_the_base_does_not(model):
    import torch
    from peft import get_peft_model

    wrapped = get_peft_model(model, _lora())
    before = weights_sha256(wrapped)
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    assert weights_sha256(wrapped) == before
    with torch.no_grad():
        wrapped.get_base_model().model.norm.weight.add_(1e-3)
    assert weights_sha256(wrapped) != before


def test_weight_bytes_of_the_plain_model(tiny_model):
    assert weight_bytes(tiny_model) == 4 * sum(p.numel() for p in tiny_model.parameters())
