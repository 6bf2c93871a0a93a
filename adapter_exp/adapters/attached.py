"""An adapter on a model: what every kind can do with it; imports neither torch nor peft."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_exp.adapters.manifest import write_manifest
from adapter_exp.adapters.specs import AdapterSpec
from adapter_exp.files import atomic_folder

if TYPE_CHECKING:
    from torch import nn


class Attached(ABC):
    """An adapter attached to a transformers model in place.

    Attributes:
        model: the model that was given, now with the adapter.
        spec: what is attached.
        name: the adapter's name on the model.
        quantization: how the base is stored (``none``, ``nf4``, ``int8``).
    """

    def __init__(self, model: Any, spec: AdapterSpec, *, name: str, quantization: str) -> None:
        self.model = model
        self.spec = spec
        self.name = name
        self.quantization = quantization

    @abstractmethod
    def parameters(self) -> dict[str, nn.Parameter]:
        """The adapter's own parameters by their path in the model."""

    @abstractmethod
    def disabled(self) -> AbstractContextManager[None]:
        """A context in which the model computes exactly what the bare base does."""

    @abstractmethod
    def activate(self, name: str | None = None) -> None:
        """Make adapter ``name`` (None: this one) the only one that takes part and trains.

        Raises:
            UserError: if the model carries no adapter of that name.
        """

    @abstractmethod
    def detach(self) -> None:
        """Take the adapter off. With the last one gone the model is the bare base again, bit for bit."""

    @abstractmethod
    def write_weights(self, folder: Path) -> None:
        """Write weights and configuration files into ``folder``, which exists and is empty."""

    @abstractmethod
    def load_weights(self, folder: Path) -> None:
        """Set the weights from what ``write_weights`` wrote.

        Raises:
            UserError: if a file is missing, unreadable, a pickle, or holds other tensors than this adapter has.
        """

    @abstractmethod
    def lowest_layer(self) -> int | None:
        """The lowest decoder layer with trainable parameters, below which nothing needs a backward pass.

        None when nothing is trained. 0 for full fine-tuning, whose embeddings train too.
        """

    def trainable_parameters(self) -> int:
        """How many numbers the adapter trains."""
        return sum(parameter.numel() for parameter in self.parameters().values())

    def save(self, folder: Path, *, base: Mapping[str, str], tokenizer: Any | None = None) -> None:
        """Write the adapter in PEFT's format, with its manifest; replaces ``folder`` at once or not at all.

        Args:
            base: facts about the base model; ``name`` and ``sha256`` (of the checkpoint) are required,
                ``source`` (a hub id) goes into PEFT's configuration, more is kept as it is.
            tokenizer: its files are put beside the weights.
        """
        with atomic_folder(folder) as temporary:
            self.write_weights(temporary)
            _name_base(temporary, base.get("source", base["name"]))
            if tokenizer is not None:
                tokenizer.save_pretrained(temporary)
            write_manifest(
                temporary,
                spec=self.spec,
                base=base,
                quantization=self.quantization,
                trainable_parameters=self.trainable_parameters(),
            )


def _name_base(folder: Path, source: str) -> None:
    """Put the base model's name where PEFT looks for it."""
    import json

    for path in sorted(folder.rglob("adapter_config.json")):
        config = json.loads(path.read_text(encoding="utf-8")) | {"base_model_name_or_path": source}
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
