"""Full fine-tuning behind the adapter interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from adapter_exp.adapters import attach, count_parameters, load
from adapter_exp.adapters.specs import FullSpec
from adapter_exp.errors import UserError

from .cases import BASE, TINY, base_tensors, gradients, load_tiny, logits, train


def test_trains_everything_and_puts_the_base_back(model: Any) -> None:
    weights, output = base_tensors(model), logits(model)
    attached = attach(model, FullSpec())
    assert attached.trainable_parameters() == count_parameters(FullSpec(), TINY)
    assert attached.lowest_layer() == 0
    assert gradients(model).keys() == attached.parameters().keys()
    train(attached)
    trained = logits(model)
    with attached.disabled():
        disabled = logits(model)
    again = logits(model)
    attached.detach()
    after = base_tensors(model)
    assert not torch.allclose(trained, output, atol=1e-3)
    assert torch.equal(disabled, output)
    assert torch.equal(again, trained)
    assert all(torch.equal(after[key], value) for key, value in weights.items())


def test_saved_weights_load_here_and_in_transformers(model: Any, tiny_folder: Path, tmp_path: Path) -> None:
    attached = attach(model, FullSpec())
    train(attached)
    trained = logits(model)
    attached.save(tmp_path / "full", base=BASE)
    attached.detach()
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "full", dtype=torch.float32)), trained)
    fresh = load_tiny(tiny_folder)
    load(fresh, tmp_path / "full", base_sha256=BASE["sha256"])
    assert torch.equal(logits(fresh), trained)


def test_weights_of_another_model_are_refused(model: Any, tiny_folder: Path, tmp_path: Path) -> None:
    attached = attach(model, FullSpec())
    attached.write_weights(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({key: value[:1] for key, value in tensors.items()}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="another base model"):
        attached.load_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="damaged"):
        attached.load_weights(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickle"):
        attached.load_weights(tmp_path)
    attached.detach()


def test_a_quantised_base_is_refused(nf4_model: Any) -> None:
    with pytest.raises(UserError, match="gradient updates"):
        attach(nf4_model, FullSpec(), quantization="nf4")
