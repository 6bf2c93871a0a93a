"""Adapters that other tools saved with PEFT, read as this project's specs. No torch."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapter_exp.adapters.manifest import CONFIG_FILE, SCHEMA, WEIGHTS_FILE, Manifest, require_safetensors
from adapter_exp.adapters.specs import LoraSpec, MlpSpec
from adapter_exp.errors import UserError

# Settings of LoRA that change what the weights mean and that ``LoraSpec`` has no equal of.
_UNKNOWN_TO_US = (
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "target_parameters",
    "lora_bias",
    "layer_replication",
)
_TARGET = re.compile(r"\.layers\.(\d+)\.(?:.*\.)?(\w+)\.lora_A\.weight$")


def manifest_of_peft_folder(folder: Path) -> Manifest:
    """The manifest that a plain PEFT folder would have; base and hashes are unknown and left empty.

    Raises:
        UserError: if the files are damaged, a pickle, or of a method or setting that no kind here equals.
    """
    config = _read_config(folder / CONFIG_FILE)
    shapes = _tensor_shapes(folder / WEIGHTS_FILE)
    readers = {"LORA": _lora, "BOTTLENECK": _mlp}
    method = config.get("peft_type")
    if method not in readers:
        raise UserError(f"{folder / CONFIG_FILE}: peft_type {method!r} is not supported; use {' or '.join(readers)}")
    try:
        spec = readers[method](config, shapes, folder / CONFIG_FILE)
    except (KeyError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else f"{error} is missing"
        raise UserError(f"{folder / CONFIG_FILE}: {reason}") from error
    return Manifest(
        schema_version=SCHEMA,
        spec=spec,
        base={},
        quantization=None,
        trainable_parameters=sum(_product(shape) for shape in shapes.values()),
        files={},
        versions={},
    )


def _lora(config: dict[str, Any], shapes: dict[str, list[int]], path: Path) -> LoraSpec:
    for key in _UNKNOWN_TO_US:
        if config.get(key):
            raise UserError(f"{path}: {key} is set, which adapter=lora has no equal of")
    if config.get("bias", "none") != "none":
        raise UserError(f"{path}: bias is {config['bias']!r}; only adapters that leave the base's biases alone load")
    # The tensors say which modules were adapted; target_modules may be a pattern that means anything.
    found = {(int(match[1]), match[2]) for key in shapes if (match := _TARGET.search(key))}
    layers, modules = sorted({layer for layer, _ in found}), sorted({module for _, module in found})
    adapted = sum(key.endswith(".lora_A.weight") for key in shapes)
    if not found or adapted != len(layers) * len(modules) or len(found) != adapted:
        raise UserError(
            f"{path}: adapts other modules in some layers than in others; adapter=lora adapts the same in each"
        )
    return LoraSpec(
        r=config["r"],
        alpha=config["lora_alpha"],
        dropout=float(config.get("lora_dropout", 0.0)),
        target_modules=tuple(modules),
        layers=tuple(layers),
        dora=config.get("use_dora", False),
        rslora=config.get("use_rslora", False),
    )


def _mlp(config: dict[str, Any], shapes: dict[str, list[int]], path: Path) -> MlpSpec:
    return MlpSpec(**{key: config[key] for key in MlpSpec.model_fields if key != "kind"})


def _read_config(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); the file is damaged") from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: holds no settings; the file is damaged")
    return data


def _tensor_shapes(path: Path) -> dict[str, list[int]]:
    from safetensors import SafetensorError, safe_open

    require_safetensors(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118  # not a dict
    except SafetensorError as error:
        raise UserError(f"{path}: cannot be read as safetensors ({error}); the file is damaged") from error


def _product(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
