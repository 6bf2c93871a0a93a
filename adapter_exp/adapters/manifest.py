"""The manifest beside a saved adapter: what it is, which base it belongs to, what its files hash to. No torch."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapter_exp.adapters.specs import AdapterSpec
from adapter_exp.errors import UserError
from adapter_exp.files import sha256_file, write_json_atomic

ADAPTER_FOLDER = "adapter"  # in a run's folder and in each checkpoint
MANIFEST_FILE = "adapter_exp.json"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
SCHEMA = 1
LIBRARIES = ("adapter-exp", "torch", "transformers", "peft", "bitsandbytes", "safetensors")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class Manifest(BaseModel):
    """What a saved adapter says about itself.

    Attributes:
        schema_version: version of this file's layout.
        spec: the adapter.
        base: facts about the base model, ``name`` and ``sha256`` among them; empty for an adapter of another tool.
        quantization: how the base was stored while the adapter trained; None when unknown.
        trainable_parameters: numbers trained.
        files: path of each weights file in the folder -> hex SHA-256; empty for an adapter of another tool.
        versions: library -> version that wrote it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(ge=1, le=SCHEMA)
    spec: AdapterSpec
    base: dict[str, str]
    quantization: str | None
    trainable_parameters: int = Field(ge=0)
    files: dict[str, str]
    versions: dict[str, str]

    @property
    def base_name(self) -> str | None:
        """Name of the base model, None when unknown."""
        return self.base.get("name")

    @property
    def base_sha256(self) -> str | None:
        """SHA-256 of the base's checkpoint, None when unknown."""
        return self.base.get("sha256")


def write_manifest(
    folder: Path, *, spec: AdapterSpec, base: Mapping[str, str], quantization: str, trainable_parameters: int
) -> None:
    """Write the manifest of the adapter whose weights are already in ``folder``."""
    manifest = Manifest(
        schema_version=SCHEMA,
        spec=spec,
        base={"name": base["name"], "sha256": base["sha256"]} | dict(base),
        quantization=quantization,
        trainable_parameters=trainable_parameters,
        files={path.relative_to(folder).as_posix(): sha256_file(path) for path in _weights_files(folder)},
        versions=_versions(),
    )
    write_json_atomic(folder / MANIFEST_FILE, manifest.model_dump(mode="json"))


def read_manifest(folder: Path) -> Manifest:
    """What the adapter saved in ``folder`` is; for a plain PEFT folder it is derived from PEFT's own files.

    The weights are not read; ``verify_files`` does that.

    Raises:
        UserError: if there is no adapter, its manifest is damaged or newer than this program, or another tool saved
            something that no kind of this project equals.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    path = folder / MANIFEST_FILE
    if path.exists():
        return _parse(path)
    if (folder / CONFIG_FILE).exists():
        from adapter_exp.adapters.foreign import manifest_of_peft_folder

        return manifest_of_peft_folder(folder)
    raise UserError(f"{folder}: holds no saved adapter (neither {MANIFEST_FILE} nor {CONFIG_FILE})")


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Compare the weights files in ``folder`` with the manifest's hashes.

    Raises:
        UserError: if a file is missing, changed or unlisted.
    """
    for name, expected in manifest.files.items():
        path = folder / name
        require_safetensors(path)
        found = sha256_file(path)
        if found != expected:
            raise UserError(f"{path}: SHA-256 is {found[:12]}, the manifest says {expected[:12]}; the file is damaged")
    if not (folder / MANIFEST_FILE).exists():
        return  # another tool's folder: nothing to compare with
    for path in _weights_files(folder):
        if path.relative_to(folder).as_posix() not in manifest.files:
            raise UserError(f"{path}: is not listed in {MANIFEST_FILE}; the folder was changed after it was saved")


def require_safetensors(path: Path) -> None:
    """Refuse a missing weights file, and say so when there is a pickle in its place.

    Raises:
        UserError: if ``path`` does not exist.
    """
    if path.exists():
        return
    pickles = sorted(file.name for file in path.parent.glob("*") if file.suffix in PICKLES)
    if pickles:
        raise UserError(
            f"{path.parent / pickles[0]}: is a pickle, which can run code when it is opened; only {path.name} "
            "(safetensors) is loaded. Save the adapter again with safe_serialization=True"
        )
    raise UserError(f"{path}: no such file")


def _weights_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def _parse(path: Path) -> Manifest:
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
        return Manifest.model_validate(data)
    except (ValidationError, ValueError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            reason = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        else:
            reason = f"not JSON ({error})"
        raise UserError(f"{path}: {reason}; the file is damaged or of a newer version") from error


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:  # bitsandbytes is missing on some platforms; the project need not be installed
            continue
    return found
