"""Adapters in a model's modules: put in, read out, switched and taken away, several by name.

A bottleneck adapter wraps a decoder block or a part of one, which moves the modules inside to another path
(``layers.3.base_layer.self_attn``). PEFT skips modules inside a wrapper when it injects, and would save such paths.
So each operation on an adapter runs while all wrappers that enclose its modules are lifted: the order in which adapters
are attached does not matter, and saved names are those of the bare model.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from peft import PeftConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer, cast_adapter_dtype
from torch import Tensor, nn

from adapter_exp.adapters.mlp.layer import BottleneckLayer

ENCLOSES_LINEARS, ENCLOSES_SUBLAYERS, ENCLOSES_BLOCKS = 0, 1, 2
"""What an adapter wraps, from the inside out: a linear layer, attention or feed-forward part, a decoder block."""


@dataclass(frozen=True)
class Part:
    """One PEFT adapter: its name in the model, its configuration, the folder it is saved in, what it encloses."""

    name: str
    config: PeftConfig
    folder: str
    encloses: int


def tuner_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """Path and module of every layer that carries adapters, outer ones first."""
    return [(path, module) for path, module in model.named_modules() if isinstance(module, BaseTunerLayer)]


@contextmanager
def lifted(model: nn.Module, encloses: int) -> Iterator[None]:
    """Take off the wrappers that enclose more than ``encloses`` for the time of the block."""
    places = []
    for path, layer in tuner_layers(model):
        if isinstance(layer, BottleneckLayer) and _encloses(layer) > encloses:
            parent_path, _, child = path.rpartition(".")
            places.append((model.get_submodule(parent_path), child, layer))
    for parent, child, layer in places:
        setattr(parent, child, layer.base_layer)
    try:
        yield
    finally:
        for parent, child, layer in places:
            setattr(parent, child, layer)


def _encloses(layer: BottleneckLayer) -> int:
    return ENCLOSES_BLOCKS if layer.is_block else ENCLOSES_SUBLAYERS


def inject(model: Any, part: Part) -> None:
    """Put a freshly initialised adapter into ``model``, in fp32 and in the model's train or eval mode."""
    with lifted(model, part.encloses), warnings.catch_warnings():
        # PEFT warns whenever a second adapter comes; several by name are meant here.
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        inject_adapter_in_model(part.config, model, adapter_name=part.name)
    cast_adapter_dtype(model, adapter_name=part.name)  # PEFT makes them in the base's dtype
    model.train(model.training)  # new modules start in train mode, whatever the model is in


def remove(model: Any, name: str) -> None:
    """Take adapter ``name`` out; layers left without any adapter are the base's own modules again."""
    for path, layer in tuner_layers(model):
        if name not in layer._all_available_adapter_names():
            continue
        layer.set_adapter([other for other in layer.active_adapters if other != name])
        layer.delete_adapter(name)
        if not layer._all_available_adapter_names():
            parent_path, _, child = path.rpartition(".")
            _replace(model, parent_path, child, layer)
    del model.peft_config[name]
    if not model.peft_config:
        del model.peft_config


def _replace(model: nn.Module, parent_path: str, child: str, layer: Any) -> None:
    # A wrapper further out may already be gone, and with it the ".base_layer" that this path went through.
    for path, module in model.named_modules():
        if module is layer:
            parent_path, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent_path), child, layer.base_layer)


def activate(model: nn.Module, names: Sequence[str]) -> None:
    """Make exactly the adapters ``names`` take part and trainable."""
    for _, layer in tuner_layers(model):
        layer.set_adapter(list(names))


def enable(model: nn.Module, enabled: bool) -> None:
    """Switch all adapters of ``model`` on or off."""
    for _, layer in tuner_layers(model):
        layer.enable_adapters(enabled)


def own_parameters(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Parameter]:
    """Parameters of the adapters ``names`` by their path in the model."""
    own = re.compile(rf"\.({'|'.join(map(re.escape, names))})(\.|$)")
    inside = re.compile(r"\.(lora|bottleneck)_[^.]+\.")
    return {path: value for path, value in model.named_parameters() if inside.search(path) and own.search(path)}


def read_weights(model: Any, part: Part) -> dict[str, Tensor]:
    """Tensors of one adapter under the names that PEFT saves, without the ``base_model.model.`` prefix."""
    with lifted(model, part.encloses):
        tensors: dict[str, Tensor] = get_peft_model_state_dict(
            model, adapter_name=part.name, save_embedding_layers=False
        )
    return tensors


def write_weights(model: Any, part: Part, tensors: dict[str, Tensor]) -> None:
    """Set one adapter's tensors, named and shaped as ``read_weights`` gives them."""
    with lifted(model, part.encloses):
        set_peft_model_state_dict(model, tensors, adapter_name=part.name)
