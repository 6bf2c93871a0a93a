"""Log-likelihood of several continuations of one context: the context once, the continuations as its branches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from adapter_exp.engine.decoder import embed, run_layers
from adapter_exp.engine.head import CHUNK_NUMBERS, project
from adapter_exp.engine.layout import Layout, in_order

Tokens = Sequence[int]


@dataclass(frozen=True)
class Branching:
    """Contexts that begin with the same tokens, and the continuations of each, in one pass.

    Attributes:
        contexts: token ids; each has a token of its own after the prefix.
        continuations: by context, token ids of each continuation, at least one.
        prefix: tokens that all contexts begin with, run once.
    """

    contexts: Sequence[Tokens]
    continuations: Sequence[Sequence[Tokens]]
    prefix: int = 0

    @cached_property
    def layout(self) -> Layout:
        """The last token of a continuation predicts nothing, so one of a single token is no branch."""
        rows = [len(context) - self.prefix for context in self.contexts]
        branches = [(row, len(tokens)) for row, tokens in self._branches]
        return Layout(rows, prefix=self.prefix, branches=branches)

    @property
    def tokens(self) -> list[int]:
        """Token ids in the order of the layout."""
        tokens = in_order(self.contexts, self.prefix)
        for _, branch in self._branches:
            tokens += branch
        return tokens

    @property
    def scored(self) -> tuple[list[int], list[int]]:
        """Of every token of every continuation: the flat index of the token that predicts it, and its id."""
        predict: list[int] = []
        starts = iter(self.layout.branch_starts)
        last = self.layout.last_of_rows.tolist()
        for row, group in enumerate(self.continuations):
            for tokens in group:
                predict.append(last[row])
                if len(tokens) > 1:
                    start = next(starts)
                    predict += range(start, start + len(tokens) - 1)
        return predict, [token for group in self.continuations for tokens in group for token in tokens]

    @cached_property
    def _branches(self) -> list[tuple[int, Tokens]]:
        return [
            (row, tokens[:-1]) for row, group in enumerate(self.continuations) for tokens in group if len(tokens) > 1
        ]


def branch_logprobs(
    model: Any, branching: Branching, states: Tensor | None = None, first: int = 0
) -> list[list[float]]:
    """Summed log-probability in nats of each continuation, by context; every token counts.

    Args:
        states: (tokens, width) entering layer ``first``; None: the embeddings.
    """
    device = model.device
    if states is None:
        states = embed(model, torch.tensor(branching.tokens, device=device))
    hidden = run_layers(model, branching.layout.to(device), states, first=first)
    predict, targets = branching.scored
    logprobs = _token_logprobs(model, hidden, torch.tensor(predict), torch.tensor(targets))
    lengths = [len(tokens) for group in branching.continuations for tokens in group]
    sums = iter([float(part.sum()) for part in torch.split(logprobs.cpu(), lengths)])
    return [[next(sums) for _ in group] for group in branching.continuations]


def _token_logprobs(model: Any, hidden: Tensor, predict: Tensor, targets: Tensor) -> Tensor:
    """Log-probability, float64, of each target (tokens,) as the token after ``hidden[predict]``.

    Contexts predict the first token of all their continuations, so each place is projected once, some at a time.
    """
    places, inverse = torch.unique(predict, return_inverse=True)
    by_place = inverse.argsort(stable=True)
    size = max(1, CHUNK_NUMBERS // model.get_output_embeddings().weight.shape[0])
    found = []
    for start in range(0, len(places), size):
        pairs = by_place[(inverse[by_place] >= start) & (inverse[by_place] < start + size)]
        scores = project(model, hidden[places[start : start + size].to(hidden.device)]).float()
        own = (inverse[pairs] - start).to(hidden.device)
        picked = scores[own, targets[pairs].to(hidden.device)]
        found.append((picked - scores.logsumexp(-1)[own]).double())
    logprobs = torch.empty(len(targets), dtype=torch.float64, device=hidden.device)
    logprobs[by_place.to(hidden.device)] = torch.cat(found)
    return logprobs
