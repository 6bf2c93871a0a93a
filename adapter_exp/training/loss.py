"""Cross-entropy over answer tokens, with the vocabulary projection only where an answer is predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from adapter_exp.training.batches import IGNORED_LABEL

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def answer_loss_sum(
    model: PreTrainedModel, batch: dict[str, torch.Tensor], *, answer_only_logits: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed cross-entropy in nats over the answer tokens of a batch, and how many they are.

    Args:
        model: a causal language model of transformers.
        batch: ``input_ids``, ``attention_mask``, ``labels`` of shape (rows, length), labels at their own position.
        answer_only_logits: project only the hidden states that predict an answer token to the vocabulary; the
            plain path projects all (rows x length x vocabulary) and computes the same sum.
    """
    targets = batch["labels"][:, 1:]
    answers = targets != IGNORED_LABEL
    inputs: dict[str, Any] = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if answer_only_logits and projects_plainly(model):
        hidden = model.get_decoder()(**inputs, use_cache=False).last_hidden_state  # (rows, length, width)
        logits = _project(model, hidden[:, :-1][answers])  # (answer tokens, vocabulary)
    else:
        logits = model(**inputs, use_cache=False).logits[:, :-1][answers]
    return cross_entropy(logits.float(), targets[answers], reduction="sum"), answers.sum()


def projects_plainly(model: PreTrainedModel) -> bool:
    """Whether logits are the output embedding of the last hidden state, with at most a soft cap behind it.

    Cohere's and Granite's models scale their logits; for them the plain path is taken.
    """
    config = model.config
    return not any(getattr(config, name, None) for name in ("logit_scale", "logits_scaling", "lm_head_multiplier"))


def _project(model: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model.get_output_embeddings()(hidden)
    cap = getattr(model.config, "final_logit_softcapping", None)  # Gemma 2
    return logits if cap is None else cap * torch.tanh(logits / cap)
