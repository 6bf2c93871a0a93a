"""Batched generation whose texts do not depend on the batch size (in fp32)."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
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
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Decoding:
    """How answers are drawn.

    Attributes:
        max_new_tokens: cap on one answer, end token included.
        stop: an answer ends before the first of these strings.
        temperature: 0 takes the most likely token (greedy).
        top_p: draw from the smallest set of tokens with this probability (Holtzman et al. 2020); 1 is off.
        repetition_penalty: divides the score of tokens already in prompt or answer (Keskar et al. 2019); 1 is off.
        seed: of the draws; each row has a generator of its own, seeded by this and by its prompt.

    Raises:
        ValueError: for a value outside its range.
    """

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens: {self.max_new_tokens} is below 1")
        if not all(self.stop):
            raise ValueError("stop: an empty string would end every answer")
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.repetition_penalty <= 0:
            raise ValueError(f"temperature must be >= 0, 0 < top_p <= 1, repetition_penalty > 0, not {self}")


@dataclass(frozen=True)
class Generated:
    """One answer.

    Attributes:
        text: without special tokens, cut before the first stop string.
        new_tokens: tokens that the model produced for it, the end token included.
        milliseconds: the batch's time, shared out by new tokens.
    """

    text: str
    new_tokens: int
    milliseconds: float


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    end_ids: Collection[int],
    batch_size: int,
    on_progress: Progress | None = None,
) -> list[Generated]:
    """Answer each prompt (token ids), in the order given.

    Args:
        end_ids: any of these tokens ends an answer.
        batch_size: rows decoded together. In fp32 it changes the speed and nothing else, sampled texts included.

    Raises:
        ValueError: for a prompt without tokens.
        NotFiniteError: when the logits hold NaN.
    """
    refuse_empty(prompts)
    seeds = _row_seeds(prompts, decoding.seed)

    def text_of(tokens: Sequence[int]) -> str:
        ids = [token for token in tokens if token not in end_ids]
        return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def finished(tokens: Sequence[int]) -> bool:
        return tokens[-1] in end_ids or any(stop in text_of(tokens) for stop in decoding.stop)

    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))  # the largest first: no late out-of-memory
    answers: dict[int, Generated] = {}
    with evaluation_mode(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            started = time.perf_counter()
            batch = _Batch(model, [prompts[row] for row in rows], padding_id(tokenizer))
            tokens = _decode(batch, _Picker(decoding, [seeds[row] for row in rows]), decoding.max_new_tokens, finished)
            ms_per_token = 1000 * (time.perf_counter() - started) / sum(map(len, tokens))
            for row, new in zip(rows, tokens, strict=True):
                answers[row] = Generated(_cut(text_of(new), decoding.stop), len(new), ms_per_token * len(new))
            if on_progress is not None:
                on_progress(len(answers), len(prompts))
    return [answers[row] for row in range(len(prompts))]


def _decode(
    batch: _Batch, picker: _Picker, max_new_tokens: int, finished: Callable[[Sequence[int]], bool]
) -> list[list[int]]:
    """New tokens of each row; a finished row leaves the batch, so no step is spent on it."""
    tokens: list[list[int]] = [[] for _ in picker.generators]
    alive = list(range(len(tokens)))
    logits = batch.prefill()
    while True:
        picked = picker.pick(batch.ids, batch.mask, logits, alive)
        for row, token in zip(alive, picked.tolist(), strict=True):
            tokens[row].append(token)
        stay = [k for k, row in enumerate(alive) if len(tokens[row]) < max_new_tokens and not finished(tokens[row])]
        if not stay:
            return tokens
        if len(stay) < len(alive):
            batch.keep(stay)
            alive, picked = [alive[k] for k in stay], picked[stay]
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


class _Picker:
    """Chooses the next token of each row: the most likely one, or a draw from the row's own generator."""

    def __init__(self, decoding: Decoding, seeds: Sequence[int]) -> None:
        import torch
        from transformers import (
            LogitsProcessorList,
            RepetitionPenaltyLogitsProcessor,
            TemperatureLogitsWarper,
            TopPLogitsWarper,
        )

        self.greedy = decoding.temperature == 0
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.processors = LogitsProcessorList()
        if decoding.repetition_penalty != 1:
            self.processors.append(RepetitionPenaltyLogitsProcessor(float(decoding.repetition_penalty)))
        if not self.greedy and decoding.temperature != 1:
            self.processors.append(TemperatureLogitsWarper(float(decoding.temperature)))
        if not self.greedy and decoding.top_p < 1:
            self.processors.append(TopPLogitsWarper(decoding.top_p))

    def pick(self, ids: torch.Tensor, mask: torch.Tensor, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Token of each row, (rows,), from logits (rows, vocabulary)."""
        import torch

        # An id past the vocabulary is ignored by the penalty; the pad id may be a token that must stay free.
        scores: torch.Tensor = self.processors(ids.masked_fill(mask == 0, logits.shape[-1]), logits)
        best, tokens = scores.max(dim=-1)
        if bool(best.isnan().any()):
            raise NotFiniteError("the model's logits are NaN: its weights or activations are not finite")
        if self.greedy:
            return tokens
        draws = [torch.rand((), dtype=torch.float64, generator=self.generators[row]) for row in rows]
        cumulative = scores.double().softmax(-1).cumsum(-1)
        targets = torch.stack(draws).to(scores.device)[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, targets, right=True)[:, 0]  # inverse transform sampling


def _row_seeds(prompts: Sequence[Sequence[int]], seed: int) -> list[int]:
    """One seed per row, from the prompt's ids and how often it came before: order and batch size play no part."""
    seen: Counter[str] = Counter()
    seeds = []
    for prompt in prompts:
        text = json.dumps([int(token) for token in prompt])
        digest = hashlib.sha256(f"{seed} {seen[text]} {text}".encode()).digest()
        seeds.append(int.from_bytes(digest[:7], "big"))
        seen[text] += 1
    return seeds


def _cut(text: str, stop: Sequence[str]) -> str:
    """``text`` before the first stop string in it."""
    return text[: min((text.index(s) for s in stop if s in text), default=len(text))]
