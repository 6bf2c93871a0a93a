"""Unpacked weights as a copy on disk: a later run reads them instead of quantising and unpacking the checkpoint.

A copy takes as much disk as the weights take in memory (0.54 GB for SmolLM2 in float32) and lies in
``cache_dir/unpacked``; deleting the folder costs the next run some seconds. It saves those, and the import of
bitsandbytes. There is one for each checkpoint, quantisation, compute dtype, kind of device and version of the
libraries that made it, verified by the hashes of its files like every model in the cache.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_exp.files import write_json_atomic
from adapter_exp.models.saving import save_model
from adapter_exp.models.weights import weights_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from adapter_exp.models.specs import QuantizationConfig

FOLDER = "unpacked"
LIMIT_BYTES = 4_000_000_000
"""Larger models get no copy: loading is a small part of what they train, and their copies would fill a disk."""
_VERSION = 1  # part of every key: raise it when equal settings have to give other files
_LIBRARIES = ("torch", "transformers", "bitsandbytes")
_FACTS = "weights.json"
_SPARE = 3  # times its size must be free on the disk


def copy_folder(
    cache_dir: Path, name: str, checkpoint_sha256: str, quantization: QuantizationConfig, *, dtype: str, device: str
) -> Path:
    """Where the copy of these very numbers lies or will lie.

    Args:
        name: the model's, for the eye.
        dtype: compute dtype (``float32``).
        device: kind of the device that quantises (``cpu``).
    """
    made_by = [f"{library} {version(library)}" for library in _LIBRARIES]
    numbers = [checkpoint_sha256, quantization.kind, quantization.double_quant, dtype, device]
    key = hashlib.sha256(json.dumps([_VERSION, numbers, made_by]).encode()).hexdigest()[:16]
    return cache_dir / FOLDER / f"{name}-{quantization.kind}-{key}"


def has_room(cache_dir: Path, size_bytes: int) -> bool:
    """Whether a copy of this size is allowed, and leaves the disk well away from full."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    return size_bytes <= LIMIT_BYTES and shutil.disk_usage(cache_dir).free >= _SPARE * size_bytes


def write_copy(model: PreTrainedModel, folder: Path) -> None:
    """Write the model and the identity of its weights into ``folder``, which exists and is empty."""
    save_model(model, folder)
    write_json_atomic(folder / _FACTS, {"weights_sha256": weights_sha256(model)})


def copied_weights_sha256(folder: Path) -> str:
    """The ``weights_sha256`` of the model that the copy was made from."""
    return str(json.loads((folder / _FACTS).read_text(encoding="utf-8"))["weights_sha256"])
