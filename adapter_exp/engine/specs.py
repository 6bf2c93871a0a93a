"""Which exact savings are used, as plain typed values; imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PASS_TOKENS = 2048
"""Tokens in one pass without gradients: enough to keep the cores busy, few enough for small activations."""
Flag = Annotated[bool, Field(strict=True)]


class SpeedConfig(BaseModel):
    """Switches of the savings that change the time of a run and none of its numbers beyond rounding.

    Two more lie where they belong: ``trainer.answer_only_logits`` and ``quantization.keep``.

    Attributes:
        packing: rows of a batch as one run of tokens without padding. Shared prefix, frozen states and continuous
            batching work on such runs and are off without it.
        shared_prefix: the tokens that all rows of a batch begin with once per batch. ``auto``: unless something drops
            out in training, since rows would then share its mask over the prefix; ``always`` shares it then too.
        frozen_cache: layers below the lowest adapter once per example, kept on disk for later epochs and runs. What all
            examples begin with passes them once, whatever ``shared_prefix`` says.
        cache_gb: most that the frozen states may take on disk, in GB (10^9 bytes); the least recently used go first.
        fused: LoRA's update, norms and the loss of the vocabulary projection with gradients of our own.
        continuous_batching: in generation a waiting prompt takes the place of a finished one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    packing: Flag = True
    shared_prefix: Literal["auto", "always", "never"] = "auto"
    frozen_cache: Flag = True
    cache_gb: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 8.0
    fused: Flag = True
    continuous_batching: Flag = True
