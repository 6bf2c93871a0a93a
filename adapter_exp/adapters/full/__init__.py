"""Full fine-tuning behind an adapter's interface: it can be switched off and taken off like the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter_exp.adapters.specs import FullSpec

if TYPE_CHECKING:
    from adapter_exp.adapters.attached import Attached
    from adapter_exp.models.shape import ModelShape


def faults(spec: FullSpec, shape: ModelShape, *, quantization: str, prefix: str) -> list[str]:
    """See ``registry.Kind.faults``."""
    if quantization == "none":
        return []
    return [
        f"{prefix}: 'full' cannot train a base stored as {quantization}: quantised weights cannot take gradient "
        "updates. Use quantization=none, or adapter=lora"
    ]


def count_parameters(spec: FullSpec, shape: ModelShape) -> int:
    """Every weight of the model, tied ones once."""
    return shape.parameters


def attach(model: Any, spec: FullSpec, *, name: str, quantization: str) -> Attached:
    """See ``registry.Kind.attach``."""
    from adapter_exp.adapters.full.attached import FullAttached

    return FullAttached(model, spec, name=name, quantization=quantization)
