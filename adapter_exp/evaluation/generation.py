"""Batched generation whose texts do not depend on the batch size (in fp32)."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapter_exp.engine.specs import SpeedConfig
from adapter_exp.evaluation.batch_size import halved_when_full, rows_for_generation
from adapter_exp.evaluation.batching import (
    EVERY_SAVING,
    Progress,
    evaluation_mode,
    left_pad,
    packs,
    padding_id,
    refuse_empty,
)
from adapter_exp.evaluation.decoding import Decoding, Ending, Picker, row_seeds
from adapter_exp.evaluation.specs import BatchSize

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from adapter_exp.engine.frozen import FrozenLayers


@dataclass(frozen=True)
class Generated:
    """One answer.

    Attributes:
        text: without special tokens, cut before the first stop string.
        new_tokens: tokens that the model produced for it, the end token included.
        milliseconds: its share of the time of the passes that it took part in.
        batch_size: most rows that were answered at a time with it.
    """

    text: str
    new_tokens: int
    milliseconds: float
    batch_size: int


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    end_ids: Collection[int],
    batch_size: BatchSize,
    speed: SpeedConfig = EVERY_SAVING,
    frozen: FrozenLayers | None = None,
    on_progress: Progress | None = None,
) -> list[Generated]:
    """Answer each prompt (token ids), in the order given.

    Args:
        end_ids: any of these tokens ends an answer.
        batch_size: most rows answered at a time; ``auto``: as many as pay and fit. Halved when memory runs out. In
            fp32 it changes the speed and nothing else, sampled texts included.
        speed: its savings compute what all prompts begin with once, pad nothing, and let a waiting prompt take the
            place of a finished one.
        frozen: keeps what the layers below the lowest adapter make of the prompts; None: all layers run.

    Raises:
        ValueError: for a prompt without tokens.
        NotFiniteError: when the logits hold NaN.
    """
    if not prompts:
        return []
    from adapter_exp.engine.frozen_prompts import keep_prompts
    from adapter_exp.evaluation.continuous import answer_packed

    refuse_empty(prompts)
    questions = Questions(model, prompts, decoding, Ending(tokenizer, decoding.stop, end_ids))
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))  # the largest first: no late out-of-memory
    answers: dict[int, Generated] = {}
    packed = packs(model, speed)

    def attempt(rows: int) -> None:
        waiting = [row for row in order if row not in answers]
        if packed:
            answered = answer_packed(questions, waiting, rows, speed, kept)
        else:
            answered = _answer_padded(questions, waiting, rows, padding_id(tokenizer))
        for some in answered:
            for one in some:
                text = questions.ending.text(one.tokens)
                answers[one.row] = Generated(text, len(one.tokens), keeping_ms + one.milliseconds, rows)
            if on_progress is not None:
                on_progress(len(answers), len(prompts))

    with evaluation_mode(model):
        started = time.perf_counter()
        kept = keep_prompts(frozen, prompts) if packed and frozen is not None else None
        keeping_ms = 1000 * (time.perf_counter() - started) / len(prompts)
        halved_when_full(rows_for_generation(model, prompts, decoding.max_new_tokens, batch_size), attempt)
    return [answers[row] for row in range(len(prompts))]


@dataclass(frozen=True)
class Questions:
    """What is asked of a model, and how answers are drawn and end."""

    model: Any
    prompts: Sequence[Sequence[int]]
    decoding: Decoding
    ending: Ending

    def picker(self) -> Picker:
        """A fresh one: every row's generator at its beginning."""
        return Picker(self.decoding, row_seeds(self.prompts, self.decoding.seed))

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether an answer is over with the last of its ``tokens``."""
        return len(tokens) >= self.decoding.max_new_tokens or self.ending.ends(tokens)


@dataclass(frozen=True)
class Finished:
    """One row's answer as tokens, the end token included, and its share of the time."""

    row: int
    tokens: list[int]
    milliseconds: float


def _answer_padded(
    questions: Questions, order: Sequence[int], batch_size: int, pad_id: int
) -> Iterator[list[Finished]]:
    """The reference: padded batches one after the other; a finished row leaves its batch."""
    picker = questions.picker()
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        started = time.perf_counter()
        batch = _Batch(questions.model, [questions.prompts[row] for row in rows], pad_id)
        tokens = _decode(batch, picker, rows, questions)
        ms_per_token = 1000 * (time.perf_counter() - started) / sum(map(len, tokens))
        yield [Finished(row, new, ms_per_token * len(new)) for row, new in zip(rows, tokens, strict=True)]


def _decode(batch: _Batch, picker: Picker, rows: Sequence[int], questions: Questions) -> list[list[int]]:
    """New tokens of each of ``rows``."""
    tokens: list[list[int]] = [[] for _ in rows]
    alive = list(range(len(rows)))
    logits = batch.prefill()
    while True:
        # The pad id may be a token that must stay free, so padding counts as no token at all.
        seen = batch.ids.masked_fill(batch.mask == 0, logits.shape[-1])
        picked = picker.pick(seen, logits, [rows[k] for k in alive])
        for k, token in zip(alive, picked.tolist(), strict=True):
            tokens[k].append(token)
        stay = [place for place, k in enumerate(alive) if not questions.ends(tokens[k])]
        if not stay:
            return tokens
        if len(stay) < len(alive):
            batch.keep(stay)
            alive, picked = [alive[place] for place in stay], picked[stay]
        logits = batch.step(picked)


class _Batch:
    """Rows decoded together: their tokens so far, their mask and their keys and values."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad_id: int) -> None:
        from transformers import DynamicCache

        self.model = model
        self.ids, self.mask, self.positions = left_pad(prompts, pad_id, model.device)
        # The config tells the cache which layers slide (Mistral: all, Gemma 3: five of six). Left padding is
        # safe there: windows count columns, and a row's columns are as far apart as its positions.
        self.cache = DynamicCache(config=model.config)

    def prefill(self) -> torch.Tensor:
        """Run the prompts; returns logits of the last position, (rows, vocabulary), fp32."""
        return self._forward(self.ids)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Append one token per row (rows,) and return the next logits (rows, vocabulary), fp32."""
        import torch

        self.ids = torch.cat([self.ids, tokens[:, None]], dim=1)
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], dim=1)
        self.positions = self.positions[:, -1:] + 1
        return self._forward(tokens[:, None])

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but these."""
        import torch

        self.ids, self.mask, self.positions = self.ids[rows], self.mask[rows], self.positions[rows]
        self.cache.batch_select_indices(torch.tensor(rows, device=self.ids.device))

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        output = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=self.positions,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits
