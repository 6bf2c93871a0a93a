"""The bottleneck adapter as a PEFT method, registered on import: PEFT's own loading and saving know it from then on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peft.config import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import register_peft_method
from peft.utils.peft_types import PeftType
from torch import nn

from adapter_exp.adapters.mlp.layer import BottleneckLayer

METHOD = "bottleneck"  # PEFT derives the parameter prefix from it; "mlp" would clash with the base's own modules
_MODULES = {"block": "", "attention": r"\.self_attn", "feed_forward": r"\.mlp", "both": r"\.(self_attn|mlp)"}


def _extend_peft_type() -> None:
    # PEFT lists its methods in an enum and checks it when a method is registered; it has no hook for new members.
    member = str.__new__(PeftType, METHOD.upper())
    member._name_, member._value_ = METHOD.upper(), METHOD.upper()
    type.__setattr__(PeftType, METHOD.upper(), member)
    PeftType._member_names_.append(METHOD.upper())
    PeftType._member_map_[METHOD.upper()] = member
    PeftType._value2member_map_[METHOD.upper()] = member


@dataclass
class BottleneckConfig(PeftConfig):  # type: ignore[misc]  # peft is untyped
    """Fields as in ``specs.MlpSpec``; ``layers`` are numbers here, and ``target_modules`` is derived from them."""

    hidden_dim: int = field(default=64)
    layers: list[int] = field(default_factory=list)
    dropout: float = field(default=0.0)
    activation: str = field(default="relu")
    placement: str = field(default="block")
    mode: str = field(default="sequential")
    init: str = field(default="zero")
    target_modules: str | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType(METHOD.upper())
        numbers = "|".join(str(layer) for layer in self.layers)
        self.target_modules = rf"(.*\.)?layers\.({numbers}){_MODULES[self.placement]}"


class BottleneckModel(BaseTuner):  # type: ignore[misc]  # peft is untyped
    """Puts ``BottleneckLayer`` around decoder blocks or their attention and feed-forward parts."""

    prefix = f"{METHOD}_"
    tuner_layer_cls = BottleneckLayer

    def _create_and_replace(
        self,
        peft_config: BottleneckConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            layer = target
        else:
            layer = BottleneckLayer(target, is_block=peft_config.placement == "block")
            setattr(parent, target_name, layer)
        layer.add(adapter_name, peft_config, width=_hidden_size(self.model))

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module) -> None:
        setattr(parent, child_name, new_module)  # PEFT's own copies a weight over, which a decoder block has not


def _hidden_size(model: Any) -> int:
    return int(model.config.get_text_config().hidden_size)


if METHOD.upper() not in PeftType.__members__:
    _extend_peft_type()
if PeftType(METHOD.upper()) not in PEFT_TYPE_TO_CONFIG_MAPPING:
    register_peft_method(name=METHOD, config_cls=BottleneckConfig, model_cls=BottleneckModel)
