"""Cross-entropy of answer tokens without ever holding their logits all at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

# Numbers in the logits that exist at a time: 64 MiB in fp32.
CHUNK_NUMBERS = 1 << 24


def projects_plainly(model: Any) -> bool:
    """Whether logits are the output embedding of the last hidden state, with at most a soft cap behind it.

    Cohere's and Granite's models scale their logits; for them the model's own forward has to be taken.
    """
    config = model.config
    return not any(getattr(config, name, None) for name in ("logit_scale", "logits_scaling", "lm_head_multiplier"))


def project(model: Any, hidden: Tensor) -> Tensor:
    """Logits (tokens, vocabulary) of hidden states (tokens, width)."""
    logits: Tensor = model.get_output_embeddings()(hidden)
    cap = getattr(model.config, "final_logit_softcapping", None)  # Gemma 2
    return logits if cap is None else cap * torch.tanh(logits / cap)


def projected_loss_sum(model: Any, hidden: Tensor, targets: Tensor, *, fused: bool = False) -> Tensor:
    """Summed cross-entropy in nats of ``targets`` (tokens,) under the logits of ``hidden`` (tokens, width).

    Logits are made and left a chunk at a time, and made again for the gradient when there is more than one chunk.

    Args:
        fused: with a frozen projection, take the gradient in the same go as the loss: softmax minus one-hot.
    """
    head = model.get_output_embeddings()
    plain = fused and type(head) is torch.nn.Linear and head.bias is None
    if plain and not head.weight.requires_grad and getattr(model.config, "final_logit_softcapping", None) is None:
        total: Tensor = _FrozenProjectionLoss.apply(hidden, head.weight, targets)  # type: ignore[no-untyped-call]  # untyped in torch
        return total
    parts = list(_chunks(len(targets), head.weight.shape[0]))
    losses = [
        checkpoint(_loss_sum, model, hidden[part], targets[part], use_reentrant=False)
        if len(parts) > 1
        else _loss_sum(model, hidden, targets)
        for part in parts
    ]
    return torch.stack(losses).sum() if losses else hidden.sum() * 0


def _loss_sum(model: Any, hidden: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(project(model, hidden).float(), targets, reduction="sum")


def _chunks(tokens: int, vocabulary: int) -> Iterator[slice]:
    size = max(1, CHUNK_NUMBERS // vocabulary)
    return (slice(start, start + size) for start in range(0, tokens, size))


class _FrozenProjectionLoss(torch.autograd.Function):
    """Loss and gradient of a frozen projection, chunk by chunk, as in Liger Kernel's fused linear cross-entropy.

    Source: Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM Training", section 3.2.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        """Summed loss in nats of ``hidden`` (tokens, width) for ``targets`` (tokens,); its gradient comes with it."""
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty(hidden.shape if wanted else (0,), dtype=torch.float32, device=hidden.device)
        for part in _chunks(len(targets), weight.shape[0]):
            logits = torch.nn.functional.linear(hidden[part], weight)  # autocast applies, as in the module's forward
            scores, picked = logits.float(), targets[part, None]
            scores = scores.sub_(scores.amax(-1, keepdim=True))  # first, as in log_softmax: small numbers round less
            normaliser = scores.logsumexp(-1, keepdim=True)
            total += (normaliser - scores.gather(-1, picked)).sum()
            if not wanted:
                continue
            scores = scores.sub_(normaliser).exp_()  # probabilities, in place
            scores.scatter_add_(-1, picked, -torch.ones_like(normaliser))
            gradient[part] = scores.to(logits.dtype) @ weight.to(logits.dtype)
        ctx.save_for_backward(gradient)
        ctx.dtype = hidden.dtype
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of ``hidden``, given that of the sum."""
        (gradient,) = ctx.saved_tensors
        return (gradient * grad).to(ctx.dtype), None, None
