"""The bottleneck (MLP) adapter: a PEFT tuner of this project, since PEFT has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter_exp.adapters.check import layer_faults
from adapter_exp.adapters.layers import parse_layers
from adapter_exp.adapters.specs import MlpSpec

if TYPE_CHECKING:
    from adapter_exp.adapters.attached import Attached
    from adapter_exp.models.shape import ModelShape


def faults(spec: MlpSpec, shape: ModelShape, *, quantization: str, prefix: str) -> list[str]:
    """See ``registry.Kind.faults``."""
    return layer_faults(spec.layers, shape, key=f"{prefix}.layers")


def count_parameters(spec: MlpSpec, shape: ModelShape) -> int:
    """``2 hidden_dim width + hidden_dim + width`` per adapter, with biases (Houlsby et al. 2019, section 2.1)."""
    width = shape.hidden_size
    per_adapter = 2 * spec.hidden_dim * width + spec.hidden_dim + width
    per_layer = 2 if spec.placement == "both" else 1
    return per_adapter * per_layer * len(parse_layers(spec.layers, shape.num_layers, name=shape.name))


def attach(model: Any, spec: MlpSpec, *, name: str, quantization: str) -> Attached:
    """See ``registry.Kind.attach``."""
    from adapter_exp.adapters.mlp.part import mlp_part
    from adapter_exp.adapters.peft_attached import PeftAttached

    return PeftAttached(model, spec, name=name, quantization=quantization, parts=[mlp_part(model, spec, name)])
