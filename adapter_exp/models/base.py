"""The frozen base model and its tokenizer: one per process."""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_exp.errors import UserError
from adapter_exp.models.cache import build_once
from adapter_exp.models.copies import copied_weights_sha256, copy_folder, has_room, write_copy
from adapter_exp.models.dequantise import choose_keep, dequantise
from adapter_exp.models.memory import weight_bytes_estimate
from adapter_exp.models.quantization import bitsandbytes_config, choose_device, choose_dtype, keep_exact_on_cpu
from adapter_exp.models.quiet import collect_everything, import_peft, quiet_libraries
from adapter_exp.models.shape import ModelShape, shape_of_folder
from adapter_exp.models.sources import Checkpoint, resolve
from adapter_exp.models.tokenizer import load_tokenizer
from adapter_exp.models.weights import weights_sha256

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

    from adapter_exp.models.specs import ModelConfig, QuantizationConfig


@dataclass(frozen=True)
class Base:
    """A loaded base model.

    Attributes:
        model: frozen (no parameter requires a gradient), in eval mode, on ``device``.
        checkpoint_sha256: identity of the unquantised checkpoint; an adapter belongs to one.
        quantization: ``none``, ``nf4`` or ``int8``.
        kept: how its weights lie in memory: ``4bit`` or ``dequantised`` (nf4), ``8bit`` (int8), ``whole`` (none).
        weights_sha256: of the weights as they were loaded, see ``weights.weights_sha256``.
        notes: lines to show the user (dtype chosen and why, special tokens handled and how).
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    shape: ModelShape
    source: str
    revision: str
    checkpoint_sha256: str
    quantization: str
    kept: str
    compute_dtype: torch.dtype
    device: torch.device
    weights_sha256: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Request:
    model: ModelConfig
    quantization: QuantizationConfig
    cache_dir: Path
    device: str


_log = logging.getLogger(__name__)

# One resident base per process: a sweep's jobs share it, and two would not fit where one does.
_resident: tuple[_Request, Base] | None = None


def load_base(model: ModelConfig, quantization: QuantizationConfig, *, cache_dir: Path, device: str = "auto") -> Base:
    """The base model, frozen and in eval mode; equal arguments give the same object again.

    Other arguments first let go of the former base, so that two are never in memory at once (if the caller has let
    go of it too).

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: if the model cannot be had, is damaged, or is not a causal language model.
    """
    global _resident
    request = _Request(model, quantization, cache_dir.expanduser().resolve(), device)
    if _resident is None or _resident[0] != request:
        release_base()
        _resident = (request, _load(request))
    return _resident[1]


def prove_unchanged(base: Base) -> None:
    """Check that the weights are those that were loaded; a base that is not is let go of, so that no other run uses it.

    Raises:
        RuntimeError: when a weight has changed.
    """
    if weights_sha256(base.model) != base.weights_sha256:
        release_base()
        raise RuntimeError("the base weights are not those that were loaded: an adapter was not taken off as a whole")


def release_base() -> None:
    """Let go of the resident base and give its memory back."""
    global _resident
    if _resident is None:
        return
    _resident = None
    collect_everything()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _load(request: _Request) -> Base:
    quiet_libraries()
    checkpoint = resolve(request.model, request.cache_dir)
    shape = shape_of_folder(checkpoint.folder, request.model.name)
    device = choose_device(request.device)
    dtype, reason = choose_dtype(device, request.model.dtype)
    tokenizer, tokenizer_notes = load_tokenizer(checkpoint.folder, request.model.name)
    kept, why = choose_keep(request.quantization, shape, dtype, device)
    if kept == "dequantised":
        model, sha256 = _load_unpacked(checkpoint, request, shape, device, dtype)
    else:
        model = _load_model(checkpoint.folder, request.model.name, request.quantization, device, dtype)
        sha256 = weights_sha256(model)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config = _greedy(model.generation_config, tokenizer.pad_token_id)
    return Base(
        model=model,
        tokenizer=tokenizer,
        shape=shape,
        source=checkpoint.source,
        revision=checkpoint.revision,
        checkpoint_sha256=checkpoint.sha256,
        quantization=request.quantization.kind,
        kept=kept,
        compute_dtype=dtype,
        device=device,
        weights_sha256=sha256,
        notes=(f"Compute dtype {reason}.", *([f"{why}."] if why else []), *tokenizer_notes),
    )


def _load_unpacked(
    checkpoint: Checkpoint, request: _Request, shape: ModelShape, device: torch.device, dtype: torch.dtype
) -> tuple[PreTrainedModel, str]:
    """The model with its nf4 weights unpacked, and their hash; from a copy on disk where there may be one."""
    name, dtype_name = request.model.name, str(dtype).removeprefix("torch.")

    def unpack() -> PreTrainedModel:
        model = _load_model(checkpoint.folder, name, request.quantization, device, dtype)
        dequantise(model)
        return model

    def announce(fault: str | None) -> None:
        again = f", again, because the copy is damaged ({fault})" if fault else ", once"
        _log.info("Model %s: writing a copy of its unpacked weights (%.2f GB)%s.", name, size / 1e9, again)

    size = weight_bytes_estimate(shape, request.quantization.kind, dtype.itemsize, dequantised=True)
    if has_room(request.cache_dir, size):
        folder = copy_folder(
            request.cache_dir, name, checkpoint.sha256, request.quantization, dtype=dtype_name, device=device.type
        )
        try:
            build_once(folder, request.cache_dir, lambda empty: write_copy(unpack(), empty), on_build=announce)
        except OSError as error:  # a full or read-only disk costs the copy, not the run
            _log.warning("Model %s: no copy of its unpacked weights could be written (%s).", name, error)
        else:
            gc.collect()  # what the copy was made from
            return _load_model(folder, name, None, device, dtype), copied_weights_sha256(folder)
    model = unpack()
    return model, weights_sha256(model)


def _load_model(
    folder: Path, name: str, quantization: QuantizationConfig | None, device: torch.device, dtype: torch.dtype
) -> PreTrainedModel:
    """Load the checkpoint in ``folder``, quantised on the way; None: as it is."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    packed = quantization is not None and quantization.kind != "none"
    import_peft(packed=packed)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            quantization_config=bitsandbytes_config(quantization, dtype) if quantization else None,
            device_map={"": device},
            attn_implementation="sdpa",
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"model: '{name}' in {folder} cannot be loaded ({reason})") from error
    absent = sorted(info["missing_keys"]) + sorted(str(key) for key in info["mismatched_keys"])
    if absent:
        raise UserError(f"model: '{name}' in {folder} lacks {len(absent)} of its weights, for example {absent[0]}")
    if packed:
        keep_exact_on_cpu(model)
    return model.requires_grad_(False).eval()


def _greedy(config: GenerationConfig, pad_token_id: int) -> GenerationConfig:
    """A generation config with the checkpoint's special tokens and none of its sampling defaults."""
    from transformers import GenerationConfig

    return GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=pad_token_id, do_sample=False
    )
