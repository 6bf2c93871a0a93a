"""The few facts about a model's architecture that adapters and checks need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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
