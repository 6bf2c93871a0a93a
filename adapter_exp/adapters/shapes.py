"""Facts about a loaded model that adapters need; the model may already carry adapters."""

from __future__ import annotations

from typing import Any

from adapter_exp.models.shape import ModelShape


def num_layers(model: Any) -> int:
    """Decoder layers of ``model``."""
    return int(model.config.get_text_config().num_hidden_layers)


def shape_of(model: Any) -> ModelShape:
    """The shape of ``model`` as it is in memory, any adapters on it left out of account.

    ``parameters`` counts what is stored: a 4-bit weight packs two values in a byte.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    config = model.config.get_text_config()
    linears: dict[str, tuple[int, int]] = {}
    for path, module in model.get_decoder().layers[0].named_modules():
        layer = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
        parts = [part for part in path.split(".") if part != "base_layer"]
        inside_adapter = any(part.startswith(("lora_", "bottleneck_")) for part in parts)
        if parts and not inside_adapter and hasattr(layer, "in_features"):
            linears[parts[-1]] = (layer.in_features, layer.out_features)
    return ModelShape(
        name=config.model_type,
        num_layers=num_layers(model),
        hidden_size=config.hidden_size,
        linears=linears,
        context_tokens=config.max_position_embeddings,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
    )
