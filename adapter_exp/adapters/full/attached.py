"""All weights of a model as its adapter; the base's own are kept on the CPU until they are put back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from adapter_exp.adapters.attached import Attached
from adapter_exp.adapters.manifest import require_safetensors
from adapter_exp.adapters.specs import FullSpec
from adapter_exp.errors import UserError
from adapter_exp.models.saving import save_model

WEIGHTS_FILE = "model.safetensors"


class FullAttached(Attached):
    """Every parameter of the model trains."""

    def __init__(self, model: Any, spec: FullSpec, *, name: str, quantization: str) -> None:
        super().__init__(model, spec, name=name, quantization=quantization)
        if getattr(model, "peft_config", None):
            raise UserError("adapter: 'full' trains the base's own weights, so no other adapter may be on the model")
        self._base = self._copy_weights()
        model.requires_grad_(True)

    def parameters(self) -> dict[str, nn.Parameter]:
        """See ``Attached.parameters``; tied weights are listed once."""
        return dict(self.model.named_parameters())

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """See ``Attached.disabled``; the trained weights wait on the CPU meanwhile."""
        trained = self._copy_weights()
        self._set_weights(self._base)
        try:
            yield
        finally:
            self._set_weights(trained)

    def activate(self, name: str | None = None) -> None:
        """See ``Attached.activate``."""
        if name not in (None, self.name):
            raise UserError(f"adapter {name!r} is not on the model; it has {self.name}")

    def detach(self) -> None:
        """See ``Attached.detach``."""
        self._set_weights(self._base)
        self.model.requires_grad_(False)

    def lowest_layer(self) -> int | None:
        """See ``Attached.lowest_layer``."""
        return 0

    def write_weights(self, folder: Path) -> None:
        """See ``Attached.write_weights``; the folder can be opened as a transformers model."""
        save_model(self.model, folder)

    def load_weights(self, folder: Path) -> None:
        """See ``Attached.load_weights``."""
        files = sorted(folder.glob("model*.safetensors"))
        if not files:
            require_safetensors(folder / WEIGHTS_FILE)
        tensors: dict[str, Tensor] = {}
        for path in files:
            try:
                tensors |= load_file(path)
            except SafetensorError as error:
                raise UserError(f"{path}: cannot be read as safetensors ({error}); the file is damaged") from error
        for key, parameter in self.parameters().items():
            if key not in tensors or tensors[key].shape != parameter.shape:
                raise UserError(f"{folder}: has no {key} of {list(parameter.shape)}; it belongs to another base model")
        self._set_weights(tensors)

    def _copy_weights(self) -> dict[str, Tensor]:
        return {key: value.detach().to("cpu", copy=True) for key, value in self.model.named_parameters()}

    @torch.no_grad()
    def _set_weights(self, tensors: Mapping[str, Tensor]) -> None:
        for key, parameter in self.model.named_parameters():
            parameter.copy_(tensors[key])
