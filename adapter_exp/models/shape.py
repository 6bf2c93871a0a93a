"""The few facts about a model's architecture that adapters and checks need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_exp.errors import UserError

if TYPE_CHECKING:
    from adapter_exp.models.specs import ModelConfig


@dataclass(frozen=True)
class ModelShape:
    """Architecture facts, readable from a model's config alone.

    Attributes:
        name: the model's name in messages (``smollm2_135m``).
        num_layers: decoder blocks.
        hidden_size: width of the residual stream.
        linears: leaf name of each linear layer inside a decoder block -> (in_features, out_features).
        context_tokens: longest sequence the positions reach.
        parameters: all weights, tied ones counted once.
    """

    name: str
    num_layers: int
    hidden_size: int
    linears: Mapping[str, tuple[int, int]]
    context_tokens: int
    parameters: int


def read_shape(model: ModelConfig, cache_dir: Path) -> ModelShape:
    """The model's shape from its config alone: no weights are fetched, converted or allocated.

    Raises:
        UserError: if the config cannot be had or is not a causal language model's.
    """
    from adapter_exp.models.sources import config_folder

    return shape_of_folder(config_folder(model, cache_dir), model.name)


def shape_of_folder(folder: Path, name: str) -> ModelShape:
    """The shape that ``folder/config.json`` describes, counted on a model without storage (meta device).

    Raises:
        UserError: if the config is not a causal language model's, or its decoder blocks differ in shape.
    """
    from transformers import AutoConfig

    from adapter_exp.models.quiet import quiet_libraries

    quiet_libraries()
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        return shape_of_config(config.get_text_config(), name)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model: '{name}' is not a causal language model that transformers knows ({reason})") from error


def shape_of_config(config: Any, name: str) -> ModelShape:
    """The shape of the causal language model that a transformers config builds."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    layers = int(config.num_hidden_layers)
    blocks = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == layers)
    linears = [_linears(block) for block in blocks]
    if any(other != linears[0] for other in linears):
        raise UserError(f"model: '{name}' has decoder blocks of different shapes, which adapters here do not support")
    return ModelShape(
        name=name,
        num_layers=layers,
        hidden_size=int(config.hidden_size),
        linears=linears[0],
        context_tokens=int(config.max_position_embeddings),
        parameters=sum(p.numel() for p in model.parameters()),
    )


def _linears(block: Any) -> dict[str, tuple[int, int]]:
    import torch

    named = block.named_modules()
    return {n.rpartition(".")[2]: (m.in_features, m.out_features) for n, m in named if isinstance(m, torch.nn.Linear)}
