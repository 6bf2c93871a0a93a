"""Which savings a run can use: the switches, and what its model and adapter allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from adapter_exp.adapters import Attached
from adapter_exp.engine.decoder import supports
from adapter_exp.engine.specs import SpeedConfig


@dataclass(frozen=True)
class Savings:
    """What is used.

    Attributes:
        packed: batches are runs of tokens.
        shared_prefix: with a shared prefix once.
        cut: layer that frozen states enter; 0: none are kept.
        notes: lines to show, why a saving that was asked for is not used.
    """

    packed: bool = False
    shared_prefix: bool = False
    cut: int = 0
    notes: tuple[str, ...] = ()


def plan_savings(speed: SpeedConfig, attached: Attached) -> Savings:
    """Decide for training ``attached``."""
    if not speed.packing:
        alone = speed.shared_prefix == "always"
        return Savings(notes=("speed.shared_prefix: not shared, it needs speed.packing=true.",) if alone else ())
    reason = _why_plain(attached)
    if reason:
        return Savings(notes=(f"speed: batches are padded and computed in full: {reason}.",))
    notes = []
    dropout = _dropout(attached.model)
    shared = speed.shared_prefix == "always" or (speed.shared_prefix == "auto" and not dropout)
    if speed.shared_prefix == "auto" and dropout:
        notes.append(
            "speed.shared_prefix: not shared, since rows would share its dropout mask; 'always' shares it still."
        )
    cut = (attached.lowest_layer() or 0) if speed.frozen_cache else 0
    if cut and _frozen_dropout(attached.model):
        notes.append("speed.frozen_cache: not used, since layers of the base itself drop out in training.")
        cut = 0
    return Savings(packed=True, shared_prefix=shared, cut=cut, notes=tuple(notes))


def _why_plain(attached: Attached) -> str:
    """Why rows cannot be packed exactly; "" when they can."""
    if not supports(attached.model):
        return f"no packed pass is proven for models of type '{attached.model.config.model_type}'"
    if attached.quantization == "int8":
        return "int8 finds its outlier columns over the whole batch, so another layout gives other numbers"
    return ""


def _dropout(model: nn.Module) -> bool:
    return _frozen_dropout(model) or any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())


def _frozen_dropout(model: Any) -> bool:
    return any(float(getattr(model.config, name, 0) or 0) > 0 for name in ("attention_dropout", "hidden_dropout"))
