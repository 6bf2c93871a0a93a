"""What generation and scoring share: evaluation mode, rows of equal length together, left padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adapter_exp.engine.specs import SpeedConfig

if TYPE_CHECKING:
    import torch

Progress = Callable[[int, int], None]
"""Called with the rows done so far and the rows in all."""

EVERY_SAVING = SpeedConfig()
"""All savings on, as in a run that switches none off."""


class NotFiniteError(ArithmeticError):
    """The model's outputs hold NaN or infinity: there is nothing to score."""


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Run the block without gradients and without dropout; each module's own mode is put back afterwards."""
    import torch

    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


def packs(model: Any, speed: SpeedConfig) -> bool:
    """Whether ``model`` is asked in runs of tokens without padding: wanted, and proven to be exact for it."""
    from adapter_exp.engine.decoder import supports

    # LLM.int8 finds its outlier columns over the whole batch, so another layout gives other numbers.
    return speed.packing and supports(model) and not any(type(m).__name__ == "Linear8bitLt" for m in model.modules())


def padding_id(tokenizer: Any) -> int:
    """Return a valid id for positions that the mask hides; which one never matters."""
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)


def left_pad(
    rows: Sequence[Sequence[int]], pad_id: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Align ``rows`` at their ends.

    The mask comes from the lengths and never from ``pad_id``, which may well be the end-of-sequence token.

    Returns:
        ids, mask (1 for a real token) and positions (0 at each row's first real token), each (rows, longest).
    """
    import torch

    longest = max(len(row) for row in rows)
    ids = torch.tensor([[pad_id] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)


def refuse_empty(rows: Sequence[Sequence[int]]) -> None:
    """Raise ValueError when a row has no token: there is nothing to continue, or nothing to score."""
    for number, row in enumerate(rows):
        if not row:
            raise ValueError(f"row {number} has no tokens")
