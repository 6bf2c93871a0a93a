"""Three tiny random models, one for each kind of attention that generation has to get right."""

from __future__ import annotations

from typing import Any

import pytest

from adapter_exp.adapters.specs import LoraSpec, MlpSpec

UPPER_SPECS = {"lora": LoraSpec(r=4, layers="last:2"), "mlp": MlpSpec(hidden_dim=8, layers="last:2")}

SIZES: dict[str, Any] = {
    "vocab_size": 261,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 256,
    "eos_token_id": 257,
    "pad_token_id": None,
    "initializer_range": 0.4,  # large enough for answers that vary instead of repeating one token
}
WINDOW = 6


def build(kind: str) -> Any:
    """A tiny fp32 model: grouped-query Llama, Mistral with a window, Gemma 3 with local and global layers."""
    import torch
    from transformers import (
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        LlamaConfig,
        LlamaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
    )

    torch.manual_seed(7)
    if kind == "llama":
        model: Any = LlamaForCausalLM(LlamaConfig(**SIZES))
    elif kind == "mistral":
        model = MistralForCausalLM(MistralConfig(**SIZES, sliding_window=WINDOW))
    else:
        layers = ["sliding_attention", "full_attention", "sliding_attention"]
        model = Gemma3ForCausalLM(
            Gemma3TextConfig(**SIZES, head_dim=8, query_pre_attn_scalar=8, sliding_window=WINDOW, layer_types=layers)
        )
    return model.requires_grad_(False).eval()


@pytest.fixture(scope="session", params=["llama", "mistral", "gemma3"])
def any_model(request: pytest.FixtureRequest) -> Any:
    return build(request.param)


@pytest.fixture(scope="session")
def llama() -> Any:
    return build("llama")


@pytest.fixture
def fresh_llama() -> Any:
    return build("llama")


@pytest.fixture
def fresh_gemma3() -> Any:
    return build("gemma3")


@pytest.fixture(params=UPPER_SPECS)
def upper_adapter(request: pytest.FixtureRequest, any_model: Any) -> Any:
    """An adapter on each model that begins at layer 1 and changes what the model says."""
    import torch

    from adapter_exp.adapters import attach

    attached = attach(any_model, UPPER_SPECS[request.param])
    with torch.no_grad():
        for number, parameter in enumerate(attached.parameters().values()):
            generator = torch.Generator().manual_seed(number)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    assert attached.lowest_layer() == 1
    any_model.eval()
    yield attached
    attached.detach()
    any_model.eval()


@pytest.fixture
def adapted(upper_adapter: Any, any_model: Any) -> Any:
    """Each model with such an adapter."""
    return any_model
