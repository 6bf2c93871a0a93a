"""The frozen base model and its tokenizer: one per process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapter_exp.models.shape import ModelShape

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Base:
    """A loaded base model.

    Attributes:
        model: frozen (no parameter requires a gradient), in eval mode, on ``device``.
        checkpoint_sha256: identity of the unquantised checkpoint; an adapter belongs to one.
        quantization: ``none``, ``nf4`` or ``int8``.
        notes: lines to show the user (dtype chosen and why, special tokens handled and how).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    shape: ModelShape
    source: str
    revision: str
    checkpoint_sha256: str
    quantization: str
    compute_dtype: torch.dtype
    device: torch.device
    notes: tuple[str, ...] = ()
