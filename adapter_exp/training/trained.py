"""The adapter's parameters in the form in which transformers' Trainer takes a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from adapter_exp.adapters import Attached


class TrainedParameters(nn.Module):
    """What a Trainer optimises, clips and sets to zero, and nothing else.

    Given the whole model it walks through all of it four times a step, changes its configuration, and has accelerate
    wrap it; but the base is shared by all jobs of a process, and our loss goes past any wrapper.
    """

    _is_accelerate_prepared = True  # accelerate's own mark of a model that it need not wrap

    def __init__(self, attached: Attached) -> None:
        super().__init__()
        self._own = attached.parameters()

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """The adapter's own, by their path in the model."""
        yield from self._own.items()
