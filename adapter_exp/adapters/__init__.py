"""Adapter kinds behind one small interface.

``attach`` puts a new adapter on a model, ``load`` a saved one; both give an ``Attached``. Importing this package
imports neither torch nor peft, so a configuration is checked in no time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from adapter_exp.adapters.attached import Attached
from adapter_exp.adapters.check import check_spec, count_parameters
from adapter_exp.adapters.manifest import Manifest, read_manifest, verify_files
from adapter_exp.adapters.registry import get_kind
from adapter_exp.adapters.specs import AdapterSpec, SavedSpec
from adapter_exp.errors import UserError

__all__ = [
    "Attached",
    "Manifest",
    "attach",
    "check_spec",
    "count_parameters",
    "load",
    "read_manifest",
    "refuse_other_base",
]

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]|_(?!_))*")


def attach(model: Any, spec: AdapterSpec, *, name: str = "default", quantization: str = "none") -> Attached:
    """Put a freshly initialised adapter on a transformers model, in place, and make it the active one.

    The base's parameters are frozen, the adapter's are fp32. Seed before: the initial weights are drawn here.

    Args:
        name: several adapters live on a model under different names (letters, digits, ``-``, single ``_``).
        quantization: how the base is stored (``none``, ``nf4``, ``int8``).

    Raises:
        UserError: if the adapter does not fit the model; the model is left as it was.
        ValueError: if the name is taken or malformed, or ``spec`` means a saved adapter, which ``load`` puts on.
    """
    from adapter_exp.adapters.peft_attached import names_on
    from adapter_exp.adapters.shapes import shape_of

    if isinstance(spec, SavedSpec):
        raise ValueError("a saved adapter is loaded, not attached: load(model, Path(spec.path), ...)")
    if not _NAME.fullmatch(name):
        raise ValueError(f"adapter name {name!r}: use letters, digits, '-' and single '_'")
    if name in names_on(model):
        raise ValueError(f"adapter name {name!r} is taken; detach that adapter first")
    faults = check_spec(spec, shape_of(model), quantization=quantization)
    if faults:
        raise UserError(*faults)
    return get_kind(spec.kind).attach(model, spec, name=name, quantization=quantization)


def load(
    model: Any, folder: Path, *, name: str = "default", base_sha256: str | None, quantization: str = "none"
) -> Attached:
    """Put an adapter saved in ``folder`` on ``model``, in place, and make it the active one.

    Folders of other tools in PEFT's format load too, LoRA and this project's bottleneck.

    Args:
        base_sha256: the model's checkpoint hash, to compare with the manifest's; None skips the comparison.

    Raises:
        UserError: if the files are damaged, changed or pickles, or belong to another base; the model is left as it was.
        ValueError: as for ``attach``.
    """
    manifest = read_manifest(folder)
    verify_files(folder, manifest)
    if base_sha256 is not None:
        refuse_other_base(folder, base_sha256)
    before = _active_names(model)
    attached = attach(model, manifest.spec, name=name, quantization=quantization)
    try:
        attached.load_weights(folder)
    except UserError:
        attached.detach()
        _activate(model, before)
        raise
    return attached


def refuse_other_base(folder: Path, base_sha256: str) -> None:
    """Compare the base that the adapter in ``folder`` was trained on, where it is known, with the one at hand.

    Raises:
        UserError: if they differ.
    """
    manifest = read_manifest(folder)
    if manifest.base_sha256 not in (None, base_sha256):
        raise UserError(
            f"{folder}: was trained on {manifest.base_name} with checkpoint SHA-256 {manifest.base_sha256}, "
            f"but this model's is {base_sha256}; load it on its own base"
        )


def _active_names(model: Any) -> list[str]:
    from adapter_exp.adapters.injection import tuner_layers

    return next((list(layer.active_adapters) for _, layer in tuner_layers(model)), [])


def _activate(model: Any, names: list[str]) -> None:
    from adapter_exp.adapters.injection import activate

    activate(model, names)
