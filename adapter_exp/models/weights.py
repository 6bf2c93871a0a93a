"""Identity and size of the base weights, whatever adapters hang on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def weights_sha256(model: torch.nn.Module) -> str:
    """Hex SHA-256 over names, dtypes, shapes and bytes of the base weights.

    Adapter parameters are left out and PEFT's wrapping leaves no trace in the names, so the hash is the same before,
    during and after an adapter is attached. Quantised weights count with their scales. Any changed bit changes it.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(base_tensors(model), key=lambda item: item[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def weight_bytes(model: torch.nn.Module) -> int:
    """Bytes of the base weights as stored, scales of quantised weights included."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in base_tensors(model))


def base_tensors(model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of each stored base weight, tied ones once; names are those of the model without adapters."""
    seen: set[int] = set()
    for name, parameter, module in _parameters(model, ""):
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        yield name, parameter.detach()
        for part, tensor in _scales(parameter, module):
            yield f"{name}.{part}", tensor


def _parameters(module: torch.nn.Module, prefix: str) -> Iterator[tuple[str, torch.Tensor, torch.nn.Module]]:
    """Walk the model; of a PEFT layer only what it wraps is walked, under the layer's own name."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    if isinstance(module, PeftModel):
        module = module.get_base_model()
    while isinstance(module, BaseTunerLayer):
        wrapped: Any = module.base_layer
        module = wrapped
    for name, parameter in module.named_parameters(recurse=False):
        yield f"{prefix}{name}", parameter, module
    for name, buffer in module.named_buffers(recurse=False):
        if name not in module._non_persistent_buffers_set:
            yield f"{prefix}{name}", buffer, module
    for name, child in module.named_children():
        yield from _parameters(child, f"{prefix}{name}.")


def _scales(parameter: torch.Tensor, module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """What bitsandbytes keeps beside a quantised weight."""
    quant_state = getattr(parameter, "quant_state", None)
    if quant_state is not None:
        yield from quant_state.as_dict(packed=True).items()
    scales = getattr(parameter, "SCB", None)
    if scales is None:  # int8: the first forward pass moves the scales from the weight to the layer
        scales = getattr(getattr(module, "state", None), "SCB", None)
    if scales is not None:
        yield "SCB", scales


def _bytes(tensor: torch.Tensor) -> Any:
    import torch

    # A byte view without a copy on the CPU; numpy has no bfloat16.
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
