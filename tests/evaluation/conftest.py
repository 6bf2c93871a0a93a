"""Three tiny random models, one for each kind of attention that generation has to get right."""

from __future__ import annotations

from typing import Any

import pytest

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
