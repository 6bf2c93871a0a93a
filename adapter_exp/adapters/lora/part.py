"""A LoRA spec as PEFT's configuration."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig

from adapter_exp.adapters.injection import ENCLOSES_LINEARS, Part
from adapter_exp.adapters.layers import parse_layers
from adapter_exp.adapters.shapes import num_layers
from adapter_exp.adapters.specs import LoraSpec


def lora_part(model: Any, spec: LoraSpec, name: str, *, folder: str = "") -> Part:
    """The PEFT adapter ``name`` that ``spec`` means on ``model``; ``folder`` is where it is saved, "" the top."""
    layers = parse_layers(spec.layers, num_layers(model))
    config = LoraConfig(
        r=spec.r,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=list(spec.target_modules),
        use_dora=spec.dora,
        use_rslora=spec.rslora,
        # PEFT reads "no restriction" from None only, and other tools expect no restriction on a LoRA of all layers.
        layers_to_transform=None if len(layers) == num_layers(model) else list(layers),
        layers_pattern=None if len(layers) == num_layers(model) else "layers",
        task_type="CAUSAL_LM",
    )
    return Part(name=name, config=config, folder=folder, encloses=ENCLOSES_LINEARS)
