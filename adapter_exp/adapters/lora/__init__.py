"""LoRA, DoRA and rank-stabilised LoRA through PEFT, on the chosen layers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter_exp.adapters.check import layer_faults, module_faults
from adapter_exp.adapters.layers import parse_layers
from adapter_exp.adapters.specs import LoraSpec

if TYPE_CHECKING:
    from adapter_exp.adapters.attached import Attached
    from adapter_exp.models.shape import ModelShape


def faults(spec: LoraSpec, shape: ModelShape, *, quantization: str, prefix: str) -> list[str]:
    """See ``registry.Kind.faults``."""
    found = layer_faults(spec.layers, shape, key=f"{prefix}.layers")
    found += module_faults(spec.target_modules, shape, key=f"{prefix}.target_modules")
    sides = {name: min(shape.linears[name]) for name in spec.target_modules if name in shape.linears}
    small = [name for name, side in sides.items() if spec.r > side]
    if small:
        name = min(small, key=lambda name: sides[name])
        inputs, outputs = shape.linears[name]
        others = f", or leave {', '.join(small)} out of {prefix}.target_modules" if len(small) < len(sides) else ""
        found.append(
            f"{prefix}.r: {spec.r} is more than the smaller side of {name} ({inputs} to {outputs}) in {shape.name}. "
            f"Use {sides[name]} or less{others}."
        )
    if spec.dora and quantization == "int8":
        # PEFT 0.21 re-creates int8 weights on the CPU when DoRA reads them; bitsandbytes then forgets their scales.
        found.append(
            f"{prefix}.dora: true does not work on an int8 base (PEFT loses the scales of int8 weights on the CPU). "
            f"Use quantization=nf4 or none, or {prefix}.dora=false"
        )
    return found


def count_parameters(spec: LoraSpec, shape: ModelShape) -> int:
    """``r (inputs + outputs)`` per target and layer, and ``outputs`` more for DoRA's magnitudes.

    Source: Hu et al. 2021, section 4.1; Liu et al. 2024, eq. 5.
    """
    per_layer = 0
    for name in spec.target_modules:
        inputs, outputs = shape.linears[name]
        per_layer += spec.r * (inputs + outputs) + (outputs if spec.dora else 0)
    return per_layer * len(parse_layers(spec.layers, shape.num_layers, name=shape.name))


def attach(model: Any, spec: LoraSpec, *, name: str, quantization: str) -> Attached:
    """See ``registry.Kind.attach``."""
    from adapter_exp.adapters.lora.part import lora_part
    from adapter_exp.adapters.peft_attached import PeftAttached

    return PeftAttached(model, spec, name=name, quantization=quantization, parts=[lora_part(model, spec, name)])
