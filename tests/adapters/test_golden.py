"""Parameter counts that published recipes report, on the real models' shapes and without their weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from adapter_exp.adapters import attach, count_parameters
from adapter_exp.adapters.shapes import shape_of
from adapter_exp.adapters.specs import LINEARS, LoraSpec, MlpSpec

LLAMA_8B = {
    "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 128_256, "tie_word_embeddings": False,
}  # fmt: skip
TINYLLAMA_1B = {
    "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
    "num_key_value_heads": 4, "vocab_size": 32_000, "tie_word_embeddings": False,
}  # fmt: skip
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")

GOLDEN = [
    (LLAMA_8B, 8_030_261_248, LoraSpec(r=32, target_modules=ATTENTION), 27_262_976),
    (LLAMA_8B, 8_030_261_248, LoraSpec(r=4, target_modules=("q_proj", "v_proj")), 1_703_936),
    (LLAMA_8B, 8_030_261_248, MlpSpec(hidden_dim=128, layers=(0, 8, 16, 24)), 4_211_200),
    (TINYLLAMA_1B, 1_100_048_384, LoraSpec(r=8, target_modules=LINEARS), 6_307_840),
]


@pytest.mark.parametrize(("config", "parameters", "spec", "expected"), GOLDEN)
def test_published_counts(config: dict[str, Any], parameters: int, spec: Any, expected: int) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **config))
    shape = shape_of(model)
    assert shape.parameters == parameters
    assert count_parameters(spec, shape) == expected
    assert attach(model, spec).trainable_parameters() == expected
