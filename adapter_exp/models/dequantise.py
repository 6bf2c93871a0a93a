"""nf4 weights unpacked once into plain linear layers: the same numbers, without unpacking them at every product."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapter_exp.models.free_memory import free_bytes
from adapter_exp.models.memory import DTYPE_BYTES, weight_bytes_estimate

if TYPE_CHECKING:
    import torch

    from adapter_exp.models.shape import ModelShape
    from adapter_exp.models.specs import QuantizationConfig

# The unpacked weights may take up to this share of the memory that the packed ones would leave free; the rest is for
# activations, gradients, the optimiser and other processes.
SHARE = 0.25


def choose_keep(
    quantization: QuantizationConfig, shape: ModelShape, dtype: torch.dtype, device: torch.device
) -> tuple[str, str | None]:
    """How to keep the base weights, and for ``auto`` a printable reason.

    ``auto`` unpacks nf4 weights when what they take beyond the packed ones is at most a quarter of the memory that
    the packed base would leave free: the container's or system's main memory on a CPU, the device's own on CUDA. It
    is decided before any weight is loaded, from the shape alone.

    Args:
        dtype: the compute dtype, in which unpacked weights are kept.

    Returns:
        ``4bit`` or ``dequantised`` for nf4, ``8bit`` for int8, ``whole`` without quantisation; and the reason, None
        unless there was something to decide.
    """
    if quantization.kind != "nf4":
        return {"int8": "8bit", "none": "whole"}[quantization.kind], None
    if quantization.keep != "auto":
        return quantization.keep, None
    size = DTYPE_BYTES[str(dtype).removeprefix("torch.")]
    packed = weight_bytes_estimate(shape, "nf4", size)
    unpacked = weight_bytes_estimate(shape, "nf4", size, dequantised=True)
    free = free_bytes(device)
    fits = unpacked - packed <= SHARE * (free - packed)
    sizes = f"{unpacked / 1e9:.2f} GB instead of {packed / 1e9:.2f} GB, {free / 1e9:.1f} GB are free"
    if fits:
        return "dequantised", f"nf4 weights: unpacked once, same numbers ({sizes}); quantization.keep=4bit saves memory"
    return (
        "4bit",
        f"nf4 weights: kept in 4 bits, unpacked at every use ({sizes}); quantization.keep=dequantised is faster",
    )


def dequantise(model: Any) -> None:
    """Put a plain linear layer with the unpacked weights in the place of each 4-bit one, in place.

    One layer at a time, so that the peak is the finished model and one layer's packed weights. The weights get the
    dtype that they were quantised from, which is the compute dtype here. Forward pass and input gradients are those
    of the 4-bit layers bit for bit on a CPU, where bitsandbytes does the same product; fused 4-bit kernels of a GPU
    may round otherwise. The model no longer calls itself quantised.
    """
    from bitsandbytes.nn import Linear4bit

    for name in [name for name, module in model.named_modules() if isinstance(module, Linear4bit)]:
        model.set_submodule(name, _plain(model.get_submodule(name)))
    model.hf_quantizer = None
    model.is_quantized = model.is_loaded_in_4bit = False
    for holder, attribute in ((model, "quantization_method"), (model.config, "quantization_config")):
        if hasattr(holder, attribute):
            delattr(holder, attribute)


def _plain(layer: Any) -> torch.nn.Linear:
    import torch
    from bitsandbytes.functional import dequantize_4bit

    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    plain.weight = torch.nn.Parameter(weight, requires_grad=False)
    plain.bias = layer.bias
    return plain.train(layer.training)
