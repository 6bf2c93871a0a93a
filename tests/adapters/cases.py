"""One row per adapter to hold to the contract, and what the tests share."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adapter_exp.adapters import Attached
from adapter_exp.adapters.specs import LoraMlpSpec, LoraSpec, MlpSpec
from adapter_exp.models.shape import ModelShape

BASE = {"name": "tiny", "sha256": "0" * 64}


class Case(NamedTuple):
    """An adapter and what the contract expects of it on the tiny model (4 layers, hidden 64)."""

    spec: Any
    lowest_layer: int = 0
    identity_at_init: bool = True


def _mlp_cases() -> dict[str, Case]:
    return {
        f"mlp-{placement}-{mode}-{init}": Case(
            MlpSpec(hidden_dim=8, layers="last:3", placement=placement, mode=mode, init=init, activation=activation),
            lowest_layer=1,
            identity_at_init=init == "zero",
        )
        for placement, activation in zip(
            ("block", "attention", "feed_forward", "both"), ("relu", "gelu", "silu", "tanh"), strict=True
        )
        for mode in ("sequential", "parallel")
        for init in ("zero", "normal")
    }


CASES: dict[str, Case] = {
    "lora": Case(LoraSpec(r=4)),
    "lora-last-2": Case(LoraSpec(r=4, layers="last:2", target_modules=("q_proj", "down_proj")), lowest_layer=2),
    "dora": Case(LoraSpec(r=4, layers="every:2", dora=True)),
    "rslora": Case(LoraSpec(r=4, layers=(1, 3), rslora=True), lowest_layer=1),
    "lora_mlp": Case(LoraMlpSpec(lora=LoraSpec(r=4, layers="last:3"), mlp=MlpSpec(hidden_dim=8)), lowest_layer=0),
    "lora_mlp-inside": Case(
        LoraMlpSpec(lora=LoraSpec(r=4, layers="last:2"), mlp=MlpSpec(hidden_dim=8, placement="both", layers="last:1")),
        lowest_layer=2,
    ),
} | _mlp_cases()

TINY = ModelShape(
    name="tiny",
    num_layers=4,
    hidden_size=64,
    linears={
        "q_proj": (64, 64),
        "k_proj": (64, 32),
        "v_proj": (64, 32),
        "o_proj": (64, 64),
        "gate_proj": (64, 128),
        "up_proj": (64, 128),
        "down_proj": (128, 64),
    },
    context_tokens=1024,
    parameters=164_736,
)

IDS = torch.arange(2 * 12).reshape(2, 12) * 7 % 256
MASK = torch.ones_like(IDS)
MASK[1, 9:] = 0  # the second row is padded


def logits(model: Any) -> Tensor:
    """Logits of the model in eval mode on a fixed padded batch."""
    model.eval()
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=MASK).logits


def loss(model: Any) -> Tensor:
    """Training loss of the model on the same batch."""
    return model(input_ids=IDS, attention_mask=MASK, labels=IDS.where(MASK == 1, -100)).loss


def base_tensors(model: Any) -> dict[str, Tensor]:
    """All tensors of the model, quantisation state included, copied."""
    return {key: value.clone() for key, value in model.state_dict().items() if isinstance(value, Tensor)}


def train(attached: Attached, steps: int = 3) -> None:
    """A few AdamW steps, after which no output is what it was."""
    own = attached.parameters()
    with torch.no_grad():  # leave the zero initialisation, where half of the gradients vanish
        for parameter in own.values():
            parameter.add_(0.02)
    optimizer = torch.optim.AdamW(own.values(), lr=1e-2)
    attached.model.train()
    for _ in range(steps):
        loss(attached.model).backward()
        optimizer.step()
        optimizer.zero_grad()
    attached.model.eval()


def gradients(model: Any) -> dict[str, Tensor]:
    """Gradient of every parameter that has one, after one backward pass; the gradients are cleared."""
    model.train()
    loss(model).backward()
    found = {key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None}
    model.zero_grad()
    model.eval()
    return found


@contextmanager
def checkpointed(model: Any):
    """Activation checkpointing on for the time of the block."""
    model.activation_checkpointing_enable({"use_reentrant": False})
    try:
        yield
    finally:
        model.activation_checkpointing_disable()
        model.disable_input_require_grads()


def load_tiny(folder: Path, quantization: str = "none") -> Any:
    """The tiny model, frozen and in eval mode, stored as ``quantization``."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    settings = {
        "none": None,
        "nf4": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        ),
        "int8": BitsAndBytesConfig(load_in_8bit=True),
    }
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=settings[quantization]
    )
    for module in model.modules():
        # On CPUs with AVX512-BF16, bitsandbytes packs a 4-bit weight for good at its first forward pass in eval mode;
        # the packed product is in bf16 and has no backward pass.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model.requires_grad_(False).eval()
