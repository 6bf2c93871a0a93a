"""Training batches as one run of tokens, and their loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adapter_exp.data.rendering import TrainingRow
from adapter_exp.engine.decoder import embed, run_layers
from adapter_exp.engine.frozen import FrozenStates
from adapter_exp.engine.head import project, projected_loss_sum
from adapter_exp.engine.layout import Layout, common_prefix, in_order


class PackedCollator:
    """Rows -> a run of tokens: ``layout``, ``input_ids`` or ``states``, ``first_layer``, ``predict``, ``labels``.

    ``predict`` (answer tokens,) is the flat index of the token that predicts each of ``labels`` (answer tokens,).

    Args:
        share_prefix: compute what the prompts of a batch begin with once.
        frozen: states entering the lowest layer that trains; they take the place of the token ids.
    """

    def __init__(self, *, share_prefix: bool, frozen: FrozenStates | None = None) -> None:
        self.share_prefix = share_prefix
        self.frozen = frozen

    def __call__(self, rows: Sequence[TrainingRow]) -> dict[str, Any]:
        """Lay out ``rows``; an answer's first token is predicted by its row's own tokens, never by the prefix."""
        prefix = self._prefix(rows)
        layout = Layout([len(row.ids) - prefix for row in rows], prefix=prefix)
        predict, labels = [], []
        for row, start in zip(rows, layout.row_starts, strict=True):
            first = max(row.prompt_tokens, 1)  # nothing predicts the first token of all
            predict.append(torch.arange(start + first - 1, start + len(row.ids) - 1) - prefix)
            labels.append(torch.tensor(row.ids[first:], dtype=torch.long))
        batch: dict[str, Any] = {"layout": layout, "predict": torch.cat(predict), "labels": torch.cat(labels)}
        batch["first_layer"] = 0 if self.frozen is None else self.frozen.cut
        if self.frozen is None:
            batch["input_ids"] = torch.tensor(in_order([row.ids for row in rows], prefix))
        else:
            batch["states"] = self.frozen.states([row.ids for row in rows], prefix)
        return batch

    def computed_tokens(self, rows: Sequence[TrainingRow]) -> int:
        """Tokens that the layers run over for a batch of ``rows``."""
        prefix = self._prefix(rows)
        return prefix + sum(len(row.ids) - prefix for row in rows)

    def _prefix(self, rows: Sequence[TrainingRow]) -> int:
        if not self.share_prefix or len(rows) < 2:
            return 0
        # Each row keeps a token of its prompt, the one that predicts the first token of its answer.
        own = min(min(row.prompt_tokens, len(row.ids)) - 1 for row in rows)
        return max(0, min(own, common_prefix([row.ids for row in rows])))


def packed_loss_sum(model: Any, batch: dict[str, Any], *, answer_only_logits: bool, fused: bool) -> Tensor:
    """Summed cross-entropy in nats over ``batch["labels"]`` of a ``PackedCollator``'s batch.

    Args:
        answer_only_logits, fused: see ``loss.answer_loss_sum``.
    """
    states = batch["states"] if "states" in batch else embed(model, batch["input_ids"])
    layout, first, predict = batch["layout"], batch["first_layer"], batch["predict"]
    if answer_only_logits:
        hidden = run_layers(model, layout, states, first=first, read=predict)
        return projected_loss_sum(model, hidden, batch["labels"], fused=fused)
    logits = project(model, run_layers(model, layout, states, first=first))[predict]
    return torch.nn.functional.cross_entropy(logits.float(), batch["labels"], reduction="sum")
