"""All that is wrong with an adapter on a model, from the model's shape alone; imports neither torch nor peft."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_exp.adapters.layers import parse_layers
from adapter_exp.adapters.registry import get_kind
from adapter_exp.adapters.specs import AdapterSpec, SavedSpec

if TYPE_CHECKING:
    from adapter_exp.models.shape import ModelShape


def check_spec(spec: AdapterSpec, shape: ModelShape, *, quantization: str, prefix: str = "adapter") -> list[str]:
    """Every fault of ``spec`` on a model of ``shape``, one line each, starting with the full key.

    Args:
        quantization: ``none``, ``nf4`` or ``int8``.
        prefix: the config group in the messages (``adapter.layers: ...``).

    Returns:
        An empty list when the adapter fits.
    """
    if isinstance(spec, SavedSpec):
        return _saved_faults(spec, shape, quantization=quantization, prefix=prefix)
    return get_kind(spec.kind).faults(spec, shape, quantization=quantization, prefix=prefix)


def count_parameters(spec: AdapterSpec, shape: ModelShape) -> int:
    """Trainable parameters of ``spec`` on a model of ``shape``, by the kind's closed formula.

    Raises:
        UserError: for a saved adapter whose folder cannot be read.
        ValueError: if the layers are out of range.
    """
    if isinstance(spec, SavedSpec):
        from adapter_exp.adapters.manifest import read_manifest

        return count_parameters(read_manifest(Path(spec.path).expanduser()).spec, shape)
    return get_kind(spec.kind).count_parameters(spec, shape)


def layer_faults(choice: str | Sequence[int], shape: ModelShape, *, key: str) -> list[str]:
    """The fault of a layer choice, if it has one."""
    try:
        parse_layers(choice, shape.num_layers, name=shape.name)
    except ValueError as error:
        return [f"{key}: {error}"]
    return []


def module_faults(names: Sequence[str], shape: ModelShape, *, key: str) -> list[str]:
    """One fault per target module that a decoder layer of the model lacks, with the nearest names."""
    faults = []
    for name in names:
        if name not in shape.linears:
            near = get_close_matches(name, shape.linears, n=2, cutoff=0.6)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            faults.append(
                f"{key}: {name!r} is not a linear layer in {shape.name}.{hint} It has {', '.join(shape.linears)}."
            )
    return faults


def _saved_faults(spec: SavedSpec, shape: ModelShape, *, quantization: str, prefix: str) -> list[str]:
    from adapter_exp.adapters.manifest import read_manifest
    from adapter_exp.errors import UserError

    try:
        saved = read_manifest(Path(spec.path).expanduser()).spec
    except UserError as error:
        return [f"{prefix}.path: {fault}" for fault in error.faults]
    faults = check_spec(saved, shape, quantization=quantization, prefix=f"{prefix}.path")
    return [f"{fault} (saved in {spec.path})" for fault in faults]
