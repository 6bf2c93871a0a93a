"""LoRA and a bottleneck adapter together, each a PEFT adapter of its own in the same model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter_exp.adapters import lora, mlp
from adapter_exp.adapters.specs import LoraMlpSpec

if TYPE_CHECKING:
    from adapter_exp.adapters.attached import Attached
    from adapter_exp.models.shape import ModelShape


def faults(spec: LoraMlpSpec, shape: ModelShape, *, quantization: str, prefix: str) -> list[str]:
    """See ``registry.Kind.faults``."""
    return [
        *lora.faults(spec.lora, shape, quantization=quantization, prefix=f"{prefix}.lora"),
        *mlp.faults(spec.mlp, shape, quantization=quantization, prefix=f"{prefix}.mlp"),
    ]


def count_parameters(spec: LoraMlpSpec, shape: ModelShape) -> int:
    """The sum of both."""
    return lora.count_parameters(spec.lora, shape) + mlp.count_parameters(spec.mlp, shape)


def attach(model: Any, spec: LoraMlpSpec, *, name: str, quantization: str) -> Attached:
    """See ``registry.Kind.attach``."""
    from adapter_exp.adapters.lora.part import lora_part
    from adapter_exp.adapters.mlp.part import mlp_part
    from adapter_exp.adapters.peft_attached import PART_MARK, PeftAttached

    parts = [
        lora_part(model, spec.lora, f"{name}{PART_MARK}lora", folder="lora"),
        mlp_part(model, spec.mlp, f"{name}{PART_MARK}mlp", folder="mlp"),
    ]
    return PeftAttached(model, spec, name=name, quantization=quantization, parts=parts)
