"""The bottleneck adapter as a method of PEFT, used through PEFT's own functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Gemma3TextConfig, MistralConfig

from adapter_exp.adapters import attach
from adapter_exp.adapters.mlp.layer import BottleneckLayer
from adapter_exp.adapters.mlp.tuner import BottleneckConfig
from adapter_exp.adapters.specs import LINEARS, LoraMlpSpec, LoraSpec, MlpSpec

from .cases import IDS, MASK, load_tiny, logits


def _config(**values: Any) -> BottleneckConfig:
    return BottleneckConfig(hidden_dim=8, layers=[1, 3], init="normal", **values)


def test_peft_adds_switches_saves_deletes_and_unloads_it(tiny_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    bare = load_tiny(tiny_folder)
    base = logits(bare)
    model = get_peft_model(bare, _config())
    first = logits(model)
    model.add_adapter("second", _config(mode="parallel", activation="tanh"))
    model.set_adapter("second")
    second = logits(model)
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    with model.disable_adapter():
        assert torch.equal(logits(model), base)
    model.delete_adapter("second")
    model.set_adapter("default")
    assert torch.equal(logits(model), first)
    assert not torch.equal(second, first)
    assert torch.equal(logits(model.unload()), base)
    assert PeftConfig.from_pretrained(tmp_path).hidden_dim == 8
    assert torch.equal(logits(PeftModel.from_pretrained(load_tiny(tiny_folder), tmp_path)), first)


def test_output_is_the_published_formula(model: Any) -> None:
    """Houlsby et al. 2019, fig. 2: h + up(activation(down(h)))."""
    attached = attach(model, MlpSpec(hidden_dim=8, layers=(3,), init="normal", activation="gelu"))
    layer = model.model.layers[3]
    hidden = torch.randn(2, 5, 64)
    captured = {}
    handle = layer.base_layer.register_forward_hook(lambda _, __, out: captured.update(out=out))
    positions = model.model.rotary_emb(hidden, position_ids=torch.arange(5)[None])
    with torch.no_grad():
        adapted = layer(hidden, position_embeddings=positions)
        down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
        inner = captured["out"]
        expected = inner + torch.nn.functional.gelu(inner @ down.weight.T + down.bias) @ up.weight.T + up.bias
    handle.remove()
    attached.detach()
    assert torch.allclose(adapted, expected, atol=1e-6)


def test_normal_init_is_the_published_one(model: Any) -> None:
    attached = attach(model, MlpSpec(hidden_dim=64, init="normal"))
    weights = torch.cat([v.flatten() for k, v in attached.parameters().items() if k.endswith("weight")])
    biases = torch.cat([v.flatten() for k, v in attached.parameters().items() if k.endswith("bias")])
    attached.detach()
    assert weights.std().item() == pytest.approx(0.01, rel=0.05)
    assert weights.mean().item() == pytest.approx(0, abs=3e-4)
    assert biases.abs().max() == 0


def test_a_wrapped_block_still_shows_its_own_attributes(model: Any) -> None:
    attached = attach(model, MlpSpec(hidden_dim=8))
    block = model.model.layers[2]
    shown = (isinstance(block, BottleneckLayer), block.self_attn.layer_idx, block.hidden_size)
    flag = block.gradient_checkpointing
    with pytest.raises(AttributeError):
        _ = block.no_such_thing
    attached.detach()
    assert shown == (True, 2, 64)
    assert flag is False


def test_adapters_of_a_bf16_base_are_fp32_and_outputs_stay_bf16(tiny_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.bfloat16).requires_grad_(False).eval()
    attached = attach(model, LoraMlpSpec(lora=LoraSpec(r=4), mlp=MlpSpec(hidden_dim=8)))
    assert {parameter.dtype for parameter in attached.parameters().values()} == {torch.float32}
    assert logits(model).dtype == torch.bfloat16


def test_a_fresh_adapter_is_in_the_models_mode(model: Any) -> None:
    attached = attach(model, LoraMlpSpec(lora=LoraSpec(r=4, dropout=0.5), mlp=MlpSpec(hidden_dim=8, dropout=0.5)))
    training = {module.training for module in model.modules()}
    attached.detach()
    assert training == {False}


SMALL = {
    "vocab_size": 261, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip


@pytest.mark.parametrize("config", [MistralConfig(**SMALL), Gemma3TextConfig(**SMALL, sliding_window=4)], ids=type)
@pytest.mark.parametrize("placement", ["block", "attention", "feed_forward", "both"])
def test_other_architectures(config: Any, placement: Any) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    base = logits(model)
    lora = LoraSpec(r=4, target_modules=LINEARS, layers="last:2")
    attached = attach(model, LoraMlpSpec(lora=lora, mlp=MlpSpec(hidden_dim=8, placement=placement, layers="last:2")))
    assert torch.equal(logits(model), base)
    with torch.no_grad():
        for parameter in attached.parameters().values():
            parameter.add_(0.02)
    assert not torch.allclose(logits(model), base)
    generated = model.generate(IDS[:1, :6], attention_mask=MASK[:1, :6], max_new_tokens=4, do_sample=False)
    with torch.no_grad():  # the cache of keys and values sees the adapted layers
        assert model(generated[:, :-1]).logits[0, -1].argmax() == generated[0, -1]
    attached.detach()
    assert torch.equal(logits(model), base)
