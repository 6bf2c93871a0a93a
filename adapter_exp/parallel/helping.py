"""What the processes of a run other than the first do otherwise, and what all of them have to agree on."""

from __future__ import annotations

from pathlib import Path

from adapter_exp.config import Config
from adapter_exp.models.specs import ModelConfig, QuantizationConfig
from adapter_exp.parallel.world import World
from adapter_exp.tracking.specs import TrackingConfig


def unseen(config: Config) -> Config:
    """The configuration of a process that nobody sees: tracked nowhere, and not in search of a run to go on with."""
    return config.model_copy(update={"tracking": TrackingConfig(kind="none"), "resume": "never"})


def agreed_model(model: ModelConfig, device: str, world: World) -> ModelConfig:
    """``model`` with the compute dtype that the first process chose: ``auto`` is timed, and two clocks can disagree."""
    if world.size == 1 or model.dtype != "auto":
        return model
    from adapter_exp.models.quantization import choose_device, choose_dtype

    chosen = world.from_first(lambda: str(choose_dtype(choose_device(device))[0]).removeprefix("torch."))
    return model if world.first else model.model_copy(update={"dtype": chosen})


def agreed_quantization(
    quantization: QuantizationConfig, model: ModelConfig, device: str, cache_dir: Path, world: World
) -> QuantizationConfig:
    """``quantization`` with weights kept as the first process chose: ``auto`` asks how much memory is free.

    Args:
        model: with the agreed dtype.
    """
    if world.size == 1 or quantization.kind != "nf4" or quantization.keep != "auto":
        return quantization
    from adapter_exp.models.dequantise import choose_keep
    from adapter_exp.models.quantization import choose_device, choose_dtype
    from adapter_exp.models.shape import read_shape

    def choose() -> str:
        place = choose_device(device)
        dtype, _ = choose_dtype(place, model.dtype)
        return choose_keep(quantization, read_shape(model, cache_dir), dtype, place)[0]

    chosen = world.from_first(choose)
    return quantization if world.first else quantization.model_copy(update={"keep": chosen})
