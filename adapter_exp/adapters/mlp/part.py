"""An MLP spec as the configuration of this project's PEFT tuner."""

from __future__ import annotations

from typing import Any

from adapter_exp.adapters.injection import ENCLOSES_BLOCKS, ENCLOSES_SUBLAYERS, Part
from adapter_exp.adapters.layers import parse_layers
from adapter_exp.adapters.mlp.tuner import BottleneckConfig
from adapter_exp.adapters.shapes import num_layers
from adapter_exp.adapters.specs import MlpSpec


def mlp_part(model: Any, spec: MlpSpec, name: str, *, folder: str = "") -> Part:
    """The PEFT adapter ``name`` that ``spec`` means on ``model``; ``folder`` is where it is saved, "" the top."""
    config = BottleneckConfig(
        hidden_dim=spec.hidden_dim,
        layers=list(parse_layers(spec.layers, num_layers(model))),
        dropout=spec.dropout,
        activation=spec.activation,
        placement=spec.placement,
        mode=spec.mode,
        init=spec.init,
        task_type="CAUSAL_LM",
    )
    encloses = ENCLOSES_BLOCKS if spec.placement == "block" else ENCLOSES_SUBLAYERS
    return Part(name=name, config=config, folder=folder, encloses=encloses)
