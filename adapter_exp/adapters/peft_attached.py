"""Adapters that are one or more PEFT adapters under a common name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from adapter_exp.adapters import injection
from adapter_exp.adapters.attached import Attached
from adapter_exp.adapters.injection import Part
from adapter_exp.adapters.manifest import CONFIG_FILE, WEIGHTS_FILE, require_safetensors
from adapter_exp.adapters.specs import AdapterSpec
from adapter_exp.errors import UserError

PEFT_PREFIX = "base_model.model."
PART_MARK = "__"  # between an adapter's name and a part's, in a model's list of PEFT adapters


class PeftAttached(Attached):
    """An adapter made of PEFT adapters (``parts``): one for most kinds, LoRA and bottleneck for ``lora_mlp``."""

    def __init__(self, model: Any, spec: AdapterSpec, *, name: str, quantization: str, parts: Sequence[Part]) -> None:
        super().__init__(model, spec, name=name, quantization=quantization)
        self.parts = list(parts)
        if not names_on(model) and getattr(model, "is_quantized", False):
            # transformers' Trainer refuses quantised weights on which it does not know an adapter.
            model._hf_peft_config_loaded = True
        for part in self.parts:
            injection.inject(model, part)
        self.activate()

    def parameters(self) -> dict[str, nn.Parameter]:
        """See ``Attached.parameters``."""
        return injection.own_parameters(self.model, [part.name for part in self.parts])

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """See ``Attached.disabled``; all adapters on the model are off, not this one only."""
        injection.enable(self.model, False)
        try:
            yield
        finally:
            injection.enable(self.model, True)

    def activate(self, name: str | None = None) -> None:
        """See ``Attached.activate``."""
        wanted = self.name if name is None else name
        parts = [part for part in getattr(self.model, "peft_config", {}) if part.split(PART_MARK)[0] == wanted]
        if not parts:
            raise UserError(
                f"adapter {wanted!r} is not on the model; it has {', '.join(names_on(self.model)) or 'none'}"
            )
        injection.activate(self.model, parts)

    def detach(self) -> None:
        """See ``Attached.detach``."""
        for part in reversed(self.parts):
            injection.remove(self.model, part.name)
        if not names_on(self.model) and getattr(self.model, "is_quantized", False):
            self.model._hf_peft_config_loaded = False

    def lowest_layer(self) -> int | None:
        """See ``Attached.lowest_layer``."""
        numbers = [re.search(r"\.layers\.(\d+)\.", path) for path in self.parameters()]
        return min(int(number[1]) for number in numbers if number)

    def write_weights(self, folder: Path) -> None:
        """See ``Attached.write_weights``; each part is a folder in PEFT's format."""
        for part in self.parts:
            place = folder / part.folder
            place.mkdir(exist_ok=True)
            tensors = injection.read_weights(self.model, part)
            whole = {PEFT_PREFIX + key: value.detach().cpu().contiguous() for key, value in tensors.items()}
            save_file(whole, place / WEIGHTS_FILE, metadata={"format": "pt"})
            config = {key: _plain(value) for key, value in part.config.to_dict().items()} | {"inference_mode": True}
            (place / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")

    def load_weights(self, folder: Path) -> None:
        """See ``Attached.load_weights``."""
        for part in self.parts:
            path = folder / part.folder / WEIGHTS_FILE
            require_safetensors(path)
            try:
                loaded = load_file(path)
            except SafetensorError as error:
                raise UserError(f"{path}: cannot be read as safetensors ({error}); the file is damaged") from error
            tensors = {key.removeprefix(PEFT_PREFIX): value for key, value in loaded.items()}
            _check_fit(path, tensors, injection.read_weights(self.model, part))
            injection.write_weights(self.model, part, tensors)


def names_on(model: Any) -> list[str]:
    """Names of the adapters on ``model``, each once."""
    return sorted({part.split(PART_MARK)[0] for part in getattr(model, "peft_config", {})})


def _check_fit(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    for key in sorted(found.keys() | expected.keys()):
        if key not in found:
            raise UserError(f"{path}: lacks {key}, which the adapter needs on this model")
        if key not in expected:
            raise UserError(f"{path}: holds {key}, which this model has no place for")
        if found[key].shape != expected[key].shape:
            raise UserError(
                f"{path}: {key} is {list(found[key].shape)}, but this model needs {list(expected[key].shape)}; "
                "the adapter belongs to another base model"
            )


def _plain(value: Any) -> Any:
    # Sets come in an order that changes from process to process; saved files should not.
    return sorted(value) if isinstance(value, set | frozenset) else value
