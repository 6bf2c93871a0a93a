"""Fused LoRA, norms and loss compute what the modules' own forward does, and leave nothing behind."""

from __future__ import annotations

import pytest
import torch
from adapters.cases import load_tiny
from training_samples import rows, run, settings
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from adapter_exp.adapters import attach
from adapter_exp.adapters.specs import LoraSpec
from adapter_exp.engine.fused import fused_modules
from adapter_exp.engine.head import projected_loss_sum


@pytest.fixture
def model(tiny_folder):
    return load_tiny(tiny_folder)


def gemma() -> Gemma3ForCausalLM:
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=261, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, sliding_window=6,
    )  # fmt: skip
    return Gemma3ForCausalLM(config).requires_grad_(False)


def with_lora(model, spec):
    torch.manual_seed(0)
    attached = attach(model, spec)
    with torch.no_grad():
        for path, parameter in attached.parameters().items():
            if "lora_B" in path:
                parameter.normal_(std=0.1)
    return attached


def loss_and_gradients(attached, ids):
    hidden = attached.model.get_decoder()(ids).last_hidden_state[0]
    loss = projected_loss_sum(attached.model, hidden[:-1], ids[0, 1:])
    return loss, torch.autograd.grad(loss, list(attached.parameters().values()))


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("layers", ["all", "last:1"])
def test_fused_forward_and_gradients_are_the_modules_own(model, family, layers):
    attached = with_lora(model if family == "llama" else gemma(), LoraSpec(r=4, layers=layers))
    ids = torch.randint(0, 256, (1, 40), generator=torch.Generator().manual_seed(1))
    loss, gradients = loss_and_gradients(attached, ids)
    with fused_modules(attached.model):
        fused_loss, fused_gradients = loss_and_gradients(attached, ids)
    assert fused_loss.item() == pytest.approx(loss.item(), rel=1e-6)
    for own, fused in zip(gradients, fused_gradients, strict=True):
        assert (fused - own).norm() <= 1e-5 * own.norm()
        assert abs((fused - own).mean()) <= 1e-6 * own.abs().max()


def forwards(model):
    return [path for path, module in model.named_modules() if "forward" in vars(module)]


def test_only_plain_float32_lora_is_fused_and_all_is_put_back(model):
    attached = with_lora(model, LoraSpec(r=4))
    with fused_modules(model):
        fused = forwards(model)
        assert len([path for path in fused if path.endswith("_proj")]) == 7 * 4
        assert len([path for path in fused if path.endswith("norm")]) == 2 * 4 + 1
    assert forwards(model) == []
    attached.detach()
    for spec in (LoraSpec(r=4, dropout=0.1), LoraSpec(r=4, dora=True)):
        attached = with_lora(model, spec)
        with fused_modules(model):
            assert [path for path in forwards(model) if path.endswith("_proj")] == []
        attached.detach()


def test_autocast_and_half_precision_take_the_own_forward(model):
    attached = with_lora(model, LoraSpec(r=4))
    ids = torch.arange(20)[None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        own = attached.model(ids).logits
        with fused_modules(attached.model):
            assert torch.equal(attached.model(ids).logits, own)


def test_disabled_adapters_stay_disabled(model):
    attached = with_lora(model, LoraSpec(r=4))
    ids = torch.arange(20)[None]
    with torch.no_grad(), attached.disabled():
        own = attached.model(ids).logits
        with fused_modules(attached.model):
            torch.testing.assert_close(attached.model(ids).logits, own, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("chunk", [261, 4 * 261, 10**6])
def test_loss_of_the_projection_in_chunks(model, monkeypatch, chunk):
    """Chunked, fused and whole: one loss, one gradient, in the mean of a window too."""
    monkeypatch.setattr("adapter_exp.engine.head.CHUNK_NUMBERS", chunk)
    hidden = torch.randn(13, 64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    targets = torch.randint(0, 261, (13,), generator=torch.Generator().manual_seed(1))
    whole = torch.nn.functional.cross_entropy(model.lm_head(hidden), targets, reduction="sum")
    (expected,) = torch.autograd.grad(whole / 7, hidden)
    for fused in (True, False):
        loss = projected_loss_sum(model.requires_grad_(False), hidden, targets, fused=fused)
        (gradient,) = torch.autograd.grad(loss / 7, hidden)
        assert loss.item() == pytest.approx(whole.item(), rel=1e-6)
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-7)


def test_a_projection_that_trains_gets_its_gradient_in_chunks(model, monkeypatch):
    monkeypatch.setattr("adapter_exp.engine.head.CHUNK_NUMBERS", 4 * 261)
    model.requires_grad_(True)
    hidden = torch.randn(13, 64, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(0, 261, (13,), generator=torch.Generator().manual_seed(1))
    whole = torch.nn.functional.cross_entropy(model.lm_head(hidden), targets, reduction="sum")
    (expected,) = torch.autograd.grad(whole, model.lm_head.weight)
    (gradient,) = torch.autograd.grad(projected_loss_sum(model, hidden, targets, fused=True), model.lm_head.weight)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_fused_training_ends_where_plain_training_does(model, tmp_path):
    runs = [
        run(model, tmp_path / str(fused), settings(max_steps=20, learning_rate=1e-3), train_rows=rows(40), fused=fused)
        for fused in (True, False)
    ]
    assert runs[0].furthest(runs[1]) < 1e-4
    for (_, a), (_, b) in zip(runs[0].result.loss, runs[1].result.loss, strict=True):
        assert a == pytest.approx(b, rel=1e-6 * 5)
    assert forwards(model) == []
