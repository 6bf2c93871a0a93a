"""What the processes of a run other than the first do otherwise, and what all of them have to agree on."""

from __future__ import annotations

from adapter_exp.config import Config
from adapter_exp.models.specs import ModelConfig
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
