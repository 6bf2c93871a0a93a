"""The adapter kinds: a kind is a folder of this package whose module fills the ``Kind`` interface below."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from adapter_exp.adapters.attached import Attached
    from adapter_exp.models.shape import ModelShape

KINDS = ("lora", "mlp", "lora_mlp", "full", "none")


class Kind(Protocol):
    """What the module ``adapter_exp.adapters.<kind>`` provides. Importing it must not import torch or peft."""

    def faults(self, spec: Any, shape: ModelShape, *, quantization: str, prefix: str) -> list[str]:
        """What is wrong with ``spec`` on a model of ``shape``: one line per fault, each starting with the full key."""
        ...

    def count_parameters(self, spec: Any, shape: ModelShape) -> int:
        """Trainable parameters by the closed formula."""
        ...

    def attach(self, model: Any, spec: Any, *, name: str, quantization: str) -> Attached:
        """Put freshly initialised adapter ``name`` on ``model``, in place, and make it the active one."""
        ...


def get_kind(kind: str) -> Kind:
    """The module of an adapter kind.

    Raises:
        ValueError: if there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not an adapter kind that can be attached; the kinds are {', '.join(KINDS)}")
    return cast(Kind, import_module(f"adapter_exp.adapters.{kind}"))
