"""Cross-entropy over the answer tokens of a batch, padded or packed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from adapter_exp.engine.head import projected_loss_sum, projects_plainly
from adapter_exp.engine.packed import packed_loss_sum
from adapter_exp.training.batches import IGNORED_LABEL

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def answer_loss_sum(
    model: PreTrainedModel, batch: dict[str, Any], *, answer_only_logits: bool, fused: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed cross-entropy in nats over the answer tokens of a batch, and how many they are.

    Args:
        model: a causal language model of transformers.
        batch: ``input_ids``, ``attention_mask``, ``labels`` of shape (rows, length), labels at their own position; or
            a run of tokens as ``engine.packed.PackedCollator`` makes it.
        answer_only_logits: project only the hidden states that predict an answer token to the vocabulary; the
            plain path projects all (rows x length x vocabulary) and computes the same sum.
        fused: loss and gradient of a frozen projection in one go, see ``engine.head``.
    """
    if "layout" in batch:
        loss = packed_loss_sum(model, batch, answer_only_logits=answer_only_logits, fused=fused)
        return loss, torch.tensor(len(batch["labels"]))
    targets = batch["labels"][:, 1:]
    answers = targets != IGNORED_LABEL
    inputs: dict[str, Any] = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if answer_only_logits and projects_plainly(model):
        hidden = model.get_decoder()(**inputs, use_cache=False).last_hidden_state  # (rows, length, width)
        return projected_loss_sum(model, hidden[:, :-1][answers], targets[answers], fused=fused), answers.sum()
    logits = model(**inputs, use_cache=False).logits[:, :-1][answers]
    return cross_entropy(logits.float(), targets[answers], reduction="sum"), answers.sum()
