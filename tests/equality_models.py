"""Tiny random models of each architecture, and every kind of adapter for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapter_exp.adapters import Attached, attach
from adapter_exp.adapters.specs import AdapterSpec, FullSpec, LoraMlpSpec, LoraSpec, MlpSpec
from adapter_exp.models.dequantise import dequantise
from adapter_exp.models.quantization import bitsandbytes_config, keep_exact_on_cpu
from adapter_exp.models.quiet import quiet_libraries
from adapter_exp.models.specs import QuantizationConfig
from adapter_exp.models.weights import weights_sha256

PAD = 257
LAYERS = 4
WINDOW = 16  # shorter than every row that is rendered here
ARCHITECTURES = ("llama", "mistral", "gemma3")
PLACEMENTS: tuple[str | tuple[int, ...], ...] = ("all", "last:2", "first:1", "every:2", (1, 3))


def _mlp(placement: str, mode: str, activation: str) -> Callable[[Any], AdapterSpec]:
    return lambda layers: MlpSpec(hidden_dim=8, layers=layers, placement=placement, mode=mode, activation=activation)


KINDS: dict[str, Callable[[Any], AdapterSpec]] = {
    "lora": lambda layers: LoraSpec(r=4, alpha=8, layers=layers),
    "lora-attention": lambda layers: LoraSpec(r=2, target_modules=("q_proj", "v_proj"), layers=layers),
    "dora": lambda layers: LoraSpec(r=4, alpha=8, dora=True, layers=layers),
    "rslora": lambda layers: LoraSpec(r=4, alpha=8, rslora=True, layers=layers),
    "lora_mlp": lambda layers: LoraMlpSpec(
        lora=LoraSpec(r=4, alpha=8, layers=layers), mlp=MlpSpec(hidden_dim=8, layers="last:1", placement="both")
    ),
    "mlp_lora": lambda layers: LoraMlpSpec(
        lora=LoraSpec(r=4, alpha=8, layers="last:1"), mlp=MlpSpec(hidden_dim=8, layers=layers)
    ),
    "full": lambda layers: FullSpec(),
} | {
    f"mlp-{placement}-{mode}": _mlp(placement, mode, activation)
    for placement, activation in (("block", "relu"), ("attention", "gelu"), ("feed_forward", "silu"), ("both", "tanh"))
    for mode in ("sequential", "parallel")
}
"""Each kind of adapter by its layers. ``lora_mlp`` and ``mlp_lora`` are one kind, the one or the other part lower."""


@dataclass(frozen=True)
class Stored:
    """A bare model, frozen and in eval mode; how its weights are stored, and their hash."""

    model: Any
    quantization: str
    sha256: str


class Bases:
    """The architectures, whole or in nf4, the latter in 4 bits or unpacked; each is made once.

    Args:
        folder: checkpoints go there.
    """

    def __init__(self, folder: Path) -> None:
        quiet_libraries()
        self._folder = folder
        self._made: dict[tuple[str, str], Stored] = {}

    def get(self, architecture: str, quantization: str = "none", keep: str = "4bit") -> Stored:
        """``keep`` is for nf4; a whole model is kept in one way."""
        stored = keep if quantization == "nf4" else "whole"
        if (architecture, stored) not in self._made:
            model = self._load(architecture, stored)
            self._made[architecture, stored] = Stored(model, quantization, weights_sha256(model))
        return self._made[architecture, stored]

    def _load(self, architecture: str, stored: str) -> Any:
        from transformers import AutoModelForCausalLM

        folder = self._folder / architecture
        if not folder.is_dir():
            random_model(architecture).save_pretrained(folder)
        kind = QuantizationConfig(kind="none" if stored == "whole" else "nf4")
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, quantization_config=bitsandbytes_config(kind, torch.float32)
        )
        keep_exact_on_cpu(model)
        if stored == "dequantised":
            dequantise(model)
        return model.requires_grad_(False).eval()


def random_model(architecture: str) -> Any:
    """A model of 4 layers in fp32 with grouped-query attention; the same weights for Llama and Mistral.

    The weights are drawn large, so that attention is far from uniform and the window matters.
    """
    from transformers import AutoModelForCausalLM, Gemma3TextConfig, LlamaConfig, MistralConfig

    shape = {
        "vocab_size": 261,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "pad_token_id": PAD,
        "tie_word_embeddings": True,
    }
    configs = {
        "llama": lambda: LlamaConfig(**shape),
        "mistral": lambda: MistralConfig(**shape, sliding_window=WINDOW),
        "gemma3": lambda: Gemma3TextConfig(
            **shape,
            sliding_window=WINDOW,
            query_pre_attn_scalar=8,
            layer_types=["sliding_attention", "full_attention"] * (LAYERS // 2),
        ),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(configs[architecture](), dtype=torch.float32)


def put_on(base: Stored, spec: AdapterSpec, *, seed: int = 5) -> Attached:
    """A fresh adapter, the same for the same seed, moved off its zero initialisation so that no gradient vanishes."""
    torch.manual_seed(seed)
    attached = attach(base.model, spec, quantization=base.quantization)
    with torch.no_grad():
        for parameter in attached.parameters().values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return attached
