"""LoRA's update and RMS norms as single autograd functions, for the time of training.

Both compute what PEFT's and transformers' modules do, with fewer passes over memory: on a CPU such passes cost a third
of a step. Modules that are not eligible (dropout, DoRA, other dtypes, quantised weights, autocast) keep their own
forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

# Class name -> (attribute with epsilon, what is added to the weight).
_NORMS = {
    "LlamaRMSNorm": ("variance_epsilon", 0.0),
    "MistralRMSNorm": ("variance_epsilon", 0.0),
    "Gemma3RMSNorm": ("eps", 1.0),
}


@contextmanager
def fused_modules(model: nn.Module) -> Iterator[None]:
    """Give eligible modules of ``model`` a fused forward; their own comes back at the end."""
    changed = []
    for module in model.modules():
        forward = _fused_forward(module)
        if forward is not None:
            module.forward = forward
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _fused_forward(module: nn.Module) -> Callable[..., Tensor] | None:
    if "forward" in vars(module):  # someone else's, for example accelerate's
        return None
    if isinstance(module, LoraLinear) and _plain_lora(module):
        return partial(_lora_forward, module, module.forward)
    if type(module).__name__ in _NORMS and module.weight.dtype is torch.float32 and not module.weight.requires_grad:
        name, offset = _NORMS[type(module).__name__]
        weight = module.weight.detach() + offset if offset else module.weight
        return partial(_norm_forward, weight, getattr(module, name), module.forward)
    return None


def _plain_lora(layer: Any) -> bool:
    """One adapter without dropout or variant over an ordinary linear layer, all in float32."""
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    base = layer.base_layer
    if len(names) != 1 or type(base) is not nn.Linear or layer.merged or layer.disable_adapters:
        return False
    (name,) = names
    weights = [base.weight, layer.lora_A[name].weight, layer.lora_B[name].weight]
    return (
        isinstance(layer.lora_dropout[name], nn.Identity)
        and name not in layer.lora_variant
        and not any(linear.bias is not None for linear in (base, layer.lora_A[name], layer.lora_B[name]))
        and not base.weight.requires_grad
        and all(weight.dtype is torch.float32 for weight in weights)
    )


def _lora_forward(layer: Any, own: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if args or kwargs or not _in_float32(x):
        return own(x, *args, **kwargs)
    (name,) = (name for name in layer.active_adapters if name in layer.lora_A)
    weights = layer.base_layer.weight, layer.lora_A[name].weight, layer.lora_B[name].weight
    flat: Tensor = _Lora.apply(x.reshape(-1, x.shape[-1]), *weights, layer.scaling[name])  # type: ignore[no-untyped-call]  # untyped in torch
    return flat.view(*x.shape[:-1], -1)


def _norm_forward(weight: Tensor, eps: float, own: Callable[..., Tensor], x: Tensor) -> Tensor:
    if not _in_float32(x):
        return own(x)
    normed: Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]  # untyped in torch
    return normed


def _in_float32(x: Tensor) -> bool:
    return x.dtype is torch.float32 and not torch.is_autocast_enabled(x.device.type)


class _Lora(torch.autograd.Function):
    """``x W^T + s (x A^T) B^T`` with the update added in place (Hu et al. 2021, section 4.1).

    x (tokens, inputs), W (outputs, inputs) frozen, A (r, inputs), B (outputs, r).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        """The layer's output, (tokens, outputs)."""
        narrow = x @ a.T
        ctx.save_for_backward(x, narrow, weight, a, b)
        ctx.scaling = scaling
        return (x @ weight.T).addmm_(narrow, b.T, alpha=scaling)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor, Tensor, None]:
        """Gradients of x, A and B, given that of the output; x's only where something below trains."""
        x, narrow, weight, a, b = ctx.saved_tensors
        grad_narrow = (grad @ b).mul_(ctx.scaling)
        grad_a = grad_narrow.T @ x
        grad_b = (narrow.T @ grad).mul_(ctx.scaling).T
        grad_x = (grad @ weight).addmm_(grad_narrow, a) if ctx.needs_input_grad[0] else None
        return grad_x, None, grad_a, grad_b, None


class _RmsNorm(torch.autograd.Function):
    """``w x / sqrt(mean(x^2) + eps)`` with a frozen weight (Zhang & Sennrich 2019, eq. 4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """The normed states, of the shape of ``x`` (..., width)."""
        # Not vector_norm: its sums are in float32 without cascades and come out low, in every norm alike.
        inverse = x.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(x, inverse, weight)
        return (x * inverse).mul_(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of ``x``, given that of the normed states."""
        x, inverse, weight = ctx.saved_tensors
        scaled = grad * weight
        along = torch.linalg.vecdot(scaled, x)[..., None] * inverse.pow(3) / x.shape[-1]
        return scaled.mul_(inverse).addcmul_(x, along, value=-1), None, None
