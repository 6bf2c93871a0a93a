"""Log-likelihood of given answers: labels of a choice, texts of a perplexity."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapter_exp.evaluation.batching import (
    NotFiniteError,
    Progress,
    evaluation_mode,
    left_pad,
    padding_id,
    refuse_empty,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

# A batch's logits may hold this many numbers (1 GiB in fp32): long texts over a large vocabulary go in smaller batches.
_LOGITS_LIMIT = 2**28


@dataclass(frozen=True)
class Scored:
    """One continuation after its prompt: ``logprob`` in nats over ``tokens``, ``milliseconds`` of its batch's time."""

    logprob: float
    tokens: int
    milliseconds: float


@dataclass(frozen=True)
class _Row:
    index: int
    ids: Sequence[int]
    tokens: int  # the last so many ids are scored


def score_continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[Sequence[int]]],
    *,
    batch_size: int,
    on_progress: Progress | None = None,
) -> list[tuple[float, ...]]:
    """Summed log-probability in nats of each of ``continuations[i]`` after ``prompts[i]``, every token counted.

    Args:
        prompts: token ids, one list per item.
        continuations: token ids of each item's answers, the end token included.
        batch_size: rows (prompt and one continuation) in one forward pass; in fp32 it changes only the speed.

    Raises:
        ValueError: for a prompt or a continuation without tokens.
        NotFiniteError: when a log-probability is NaN or infinite.
    """
    rows = [(prompt, answer) for prompt, group in zip(prompts, continuations, strict=True) for answer in group]
    scored = iter(score_rows(model, tokenizer, rows, batch_size=batch_size, on_progress=on_progress))
    return [tuple(next(scored).logprob for _ in group) for group in continuations]


def score_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_size: int,
    on_progress: Progress | None = None,
) -> list[Scored]:
    """Score (prompt, continuation) pairs in one list; see ``score_continuations``."""
    refuse_empty([ids for row in rows for ids in row])
    waiting = [_Row(k, [*prompt, *answer], len(answer)) for k, (prompt, answer) in enumerate(rows)]
    waiting.sort(key=lambda row: -len(row.ids))  # the largest first: no late out-of-memory
    scored: dict[int, Scored] = {}
    with evaluation_mode(model):
        for batch in _batches(waiting, batch_size, model.config.get_text_config().vocab_size):
            started = time.perf_counter()
            logprobs = _logprobs(model, batch, padding_id(tokenizer))
            tokens = sum(row.tokens for row in batch)
            ms_per_token = 1000 * (time.perf_counter() - started) / tokens
            for row, logprob in zip(batch, logprobs, strict=True):
                scored[row.index] = Scored(logprob, row.tokens, ms_per_token * row.tokens)
            if on_progress is not None:
                on_progress(len(scored), len(rows))
    return [scored[k] for k in range(len(rows))]


def _batches(rows: Sequence[_Row], batch_size: int, vocabulary: int) -> Iterator[list[_Row]]:
    batch: list[_Row] = []
    for row in rows:
        widest = max([row.tokens, *(other.tokens for other in batch)])
        if batch and (len(batch) == batch_size or (len(batch) + 1) * widest * vocabulary > _LOGITS_LIMIT):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _logprobs(model: Any, batch: Sequence[_Row], pad_id: int) -> list[float]:
    """Teacher-forced log-probability of each row's continuation; logits only where one is scored."""
    import torch

    ids, mask, positions = left_pad([row.ids for row in batch], pad_id, model.device)
    # Rows end together, so the last `width` inputs predict every scored token of every row.
    width = max(row.tokens for row in batch)
    output = model(
        input_ids=ids[:, :-1],  # the last token predicts nothing that is scored
        attention_mask=mask[:, :-1],
        position_ids=positions[:, :-1],
        use_cache=False,
        logits_to_keep=width,
    )
    sums = []
    for row, logits, tokens in zip(batch, output.logits, ids, strict=True):  # row by row: fp32 copies stay small
        scores = logits[len(logits) - row.tokens :].float()
        picked = scores.gather(-1, tokens[len(tokens) - row.tokens :, None])[:, 0]
        sums.append((picked - scores.logsumexp(-1)).double().sum())
    result: list[float] = torch.stack(sums).tolist()
    if not all(map(math.isfinite, result)):
        raise NotFiniteError("a log-likelihood is not finite: the model's weights or activations are not finite")
    return result
