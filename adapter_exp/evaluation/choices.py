"""Log-likelihood of given answers: labels of a choice, texts of a perplexity."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adapter_exp.engine.specs import PASS_TOKENS, SpeedConfig
from adapter_exp.evaluation.batch_size import halved_when_full, rows_for_scoring
from adapter_exp.evaluation.batching import (
    EVERY_SAVING,
    NotFiniteError,
    Progress,
    evaluation_mode,
    left_pad,
    packs,
    padding_id,
    refuse_empty,
)
from adapter_exp.evaluation.specs import BatchSize

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from adapter_exp.engine.frozen import FrozenLayers

# A batch's logits may hold this many numbers (1 GiB in fp32): long texts over a large vocabulary go in smaller batches.
_LOGITS_LIMIT = 2**28


@dataclass(frozen=True)
class Scored:
    """One continuation after its prompt.

    Attributes:
        logprob: in nats over ``tokens``.
        milliseconds: its share of its pass's time, and of the time that keeping states took.
        batch_size: most rows in its pass.
    """

    logprob: float
    tokens: int
    milliseconds: float
    batch_size: int


@dataclass(frozen=True)
class _Row:
    index: int
    ids: Sequence[int]
    tokens: int  # the last so many ids are scored


@dataclass
class _Item:
    """A prompt and all that is scored after it, with the index of each row that it came from."""

    prompt: tuple[int, ...]
    indices: list[int] = field(default_factory=list)
    continuations: list[Sequence[int]] = field(default_factory=list)


def score_continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[Sequence[int]]],
    *,
    batch_size: BatchSize,
    speed: SpeedConfig = EVERY_SAVING,
    on_progress: Progress | None = None,
) -> list[tuple[float, ...]]:
    """Summed log-probability in nats of each of ``continuations[i]`` after ``prompts[i]``, every token counted.

    Args:
        prompts: token ids, one list per item.
        continuations: token ids of each item's answers, the end token included.
        batch_size: most rows (prompt and one continuation) in one forward pass; ``auto``: as many as pay and fit.
            Halved when memory runs out. In fp32 it changes only the speed.
        speed: its savings run each prompt once for all of its continuations, and what all prompts begin with once
            a pass.

    Raises:
        ValueError: for a prompt or a continuation without tokens.
        NotFiniteError: when a log-probability is NaN or infinite.
    """
    rows = [(prompt, answer) for prompt, group in zip(prompts, continuations, strict=True) for answer in group]
    scored = iter(score_rows(model, tokenizer, rows, batch_size=batch_size, speed=speed, on_progress=on_progress))
    return [tuple(next(scored).logprob for _ in group) for group in continuations]


def score_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    batch_size: BatchSize,
    speed: SpeedConfig = EVERY_SAVING,
    frozen: FrozenLayers | None = None,
    on_progress: Progress | None = None,
) -> list[Scored]:
    """Score (prompt, continuation) pairs in one list; see ``score_continuations``.

    Args:
        frozen: keeps what the layers below the lowest adapter make of the rows; None: all layers run.
    """
    if not rows:
        return []
    refuse_empty([ids for row in rows for ids in row])
    scored: dict[int, Scored] = {}

    def attempt(most: int) -> None:
        waiting = {k: row for k, row in enumerate(rows) if k not in scored}
        started = time.perf_counter()
        if packs(model, speed):
            passes = _packed_passes(model, waiting, most, speed, frozen)
        else:
            passes = _plain_passes(model, waiting, most, padding_id(tokenizer))
        now = time.perf_counter()
        preparing_ms, started = 1000 * (now - started) / len(waiting), now
        for logprobs in passes:
            now = time.perf_counter()
            ms_per_token = 1000 * (now - started) / sum(len(rows[k][1]) for k in logprobs)
            for k, logprob in logprobs.items():
                tokens = len(rows[k][1])
                scored[k] = Scored(_finite(logprob), tokens, preparing_ms + ms_per_token * tokens, most)
            started = now
            if on_progress is not None:
                on_progress(len(scored), len(rows))

    with evaluation_mode(model):
        halved_when_full(rows_for_scoring(model, rows, batch_size), attempt)
    return [scored[k] for k in range(len(rows))]


def _finite(logprob: float) -> float:
    if not math.isfinite(logprob):
        raise NotFiniteError("a log-likelihood is not finite: the model's weights or activations are not finite")
    return logprob


def _packed_passes(
    model: Any,
    rows: Mapping[int, tuple[Sequence[int], Sequence[int]]],
    batch_size: int,
    speed: SpeedConfig,
    frozen: FrozenLayers | None,
) -> Iterator[dict[int, float]]:
    """Log-probabilities by row, pass by pass; rows of one prompt share it in one pass. What is kept is kept first."""
    from adapter_exp.engine.branches import Branching, branch_logprobs
    from adapter_exp.engine.frozen_branches import branch_states
    from adapter_exp.engine.layout import prefix_before_own

    items = _items(rows, batch_size)
    prompts = list({item.prompt for item in items})
    prefix = 0
    if speed.shared_prefix != "never" and len(prompts) > 1:
        # A prompt keeps a token of its own, which predicts the first one of its continuations.
        prefix = prefix_before_own(prompts)
    batches = list(_item_batches(sorted(items, key=lambda item: -len(item.prompt)), prefix, batch_size))
    passes = [
        Branching([item.prompt for item in batch], [item.continuations for item in batch], prefix) for batch in batches
    ]
    states = branch_states(frozen, passes) if frozen is not None and passes else None
    first = 0 if frozen is None or states is None else frozen.cut

    def scored() -> Iterator[dict[int, float]]:
        for branching, batch in zip(passes, batches, strict=True):
            entering = None if states is None else next(states).to(model.device)
            sums = branch_logprobs(model, branching, entering, first)
            indices = (k for item in batch for k in item.indices)
            yield dict(zip(indices, (one for group in sums for one in group), strict=True))

    return scored()


def _items(rows: Mapping[int, tuple[Sequence[int], Sequence[int]]], most: int) -> list[_Item]:
    """Rows of one prompt together, at most so many."""
    items: list[_Item] = []
    unfilled: dict[tuple[int, ...], _Item] = {}
    for index, (prompt, answer) in rows.items():
        item = unfilled.get(tuple(prompt))
        if item is None or len(item.indices) == most:
            item = unfilled[tuple(prompt)] = _Item(tuple(prompt))
            items.append(item)
        item.indices.append(index)
        item.continuations.append(answer)
    return items


def _item_batches(items: Sequence[_Item], prefix: int, batch_size: int) -> Iterator[list[_Item]]:
    batch: list[_Item] = []
    rows = tokens = 0
    for item in items:
        more = len(item.prompt) - prefix + sum(len(ids) - 1 for ids in item.continuations)
        if batch and (rows + len(item.indices) > batch_size or tokens + more > PASS_TOKENS):
            yield batch
            batch, rows, tokens = [], 0, 0
        batch.append(item)
        rows += len(item.indices)
        tokens += more
    if batch:
        yield batch


def _plain_passes(
    model: Any, rows: Mapping[int, tuple[Sequence[int], Sequence[int]]], batch_size: int, pad_id: int
) -> Iterator[dict[int, float]]:
    """The reference: each prompt as often as it has continuations, padded to the longest row of a pass."""
    waiting = [_Row(k, [*prompt, *answer], len(answer)) for k, (prompt, answer) in rows.items()]
    waiting.sort(key=lambda row: -len(row.ids))  # the largest first: no late out-of-memory
    for batch in _batches(waiting, batch_size, model.config.get_text_config().vocab_size):
        logprobs = _logprobs(model, batch, pad_id)
        yield {row.index: logprob for row, logprob in zip(batch, logprobs, strict=True)}


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
    return result
