"""No adapter: the base alone, as a row of its own in a comparison."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_exp.adapters.attached import Attached
from adapter_exp.adapters.specs import NoneSpec

if TYPE_CHECKING:
    from torch import nn

    from adapter_exp.models.shape import ModelShape


def faults(spec: NoneSpec, shape: ModelShape, *, quantization: str, prefix: str) -> list[str]:
    """Nothing can be wrong with nothing."""
    return []


def count_parameters(spec: NoneSpec, shape: ModelShape) -> int:
    """Nothing is trained."""
    return 0


def attach(model: Any, spec: NoneSpec, *, name: str, quantization: str) -> Attached:
    """See ``registry.Kind.attach``."""
    model.requires_grad_(False)
    return NoneAttached(model, spec, name=name, quantization=quantization)


class NoneAttached(Attached):
    """The bare base model behind an adapter's interface."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """See ``Attached.parameters``."""
        return {}

    def disabled(self) -> AbstractContextManager[None]:
        """See ``Attached.disabled``."""
        return nullcontext()

    def activate(self, name: str | None = None) -> None:
        """There is nothing to switch."""

    def detach(self) -> None:
        """There is nothing to take off."""

    def lowest_layer(self) -> int | None:
        """See ``Attached.lowest_layer``."""
        return None

    def write_weights(self, folder: Path) -> None:
        """There are no weights."""

    def load_weights(self, folder: Path) -> None:
        """There are no weights."""
