"""How an answer is drawn and where it ends."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapter_exp.evaluation.batching import NotFiniteError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast


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


class Picker:
    """Chooses the next token of each row: the most likely one, or a draw from the row's own generator.

    Args:
        seeds: by row.
    """

    def __init__(self, decoding: Decoding, seeds: Sequence[int]) -> None:
        import torch
        from transformers import (
            LogitsProcessorList,
            RepetitionPenaltyLogitsProcessor,
            TemperatureLogitsWarper,
            TopPLogitsWarper,
        )

        self.greedy = decoding.temperature == 0
        self.penalised = decoding.repetition_penalty != 1
        self.generators = [] if self.greedy else [torch.Generator().manual_seed(seed) for seed in seeds]
        self.processors = LogitsProcessorList()
        if self.penalised:
            self.processors.append(RepetitionPenaltyLogitsProcessor(float(decoding.repetition_penalty)))
        if not self.greedy and decoding.temperature != 1:
            self.processors.append(TemperatureLogitsWarper(float(decoding.temperature)))
        if not self.greedy and decoding.top_p < 1:
            self.processors.append(TopPLogitsWarper(decoding.top_p))

    def pick(self, seen: torch.Tensor, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Token of each row, (rows,), from logits (rows, vocabulary).

        Args:
            seen: token ids of each row so far, (rows, any); an id past the vocabulary counts for nothing. Read only
                where repetition is penalised.
        """
        import torch

        scores: torch.Tensor = self.processors(seen, logits)
        best, tokens = scores.max(dim=-1)
        if bool(best.isnan().any()):
            raise NotFiniteError("the model's logits are NaN: its weights or activations are not finite")
        if self.greedy:
            return tokens
        draws = [torch.rand((), dtype=torch.float64, generator=self.generators[row]) for row in rows]
        cumulative = scores.double().softmax(-1).cumsum(-1)
        targets = torch.stack(draws).to(scores.device)[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, targets, right=True)[:, 0]  # inverse transform sampling


class Ending:
    """What an answer's tokens say, and whether they end it.

    Args:
        stop: an answer ends before the first of these strings.
        end_ids: any of these tokens ends an answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, stop: Sequence[str], end_ids: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._end_ids = end_ids
        self._may_end: dict[int, bool] = {}

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether the last of ``tokens`` ends the answer; to be asked after each token.

        The text is decoded only where the last token can complete a stop string.
        """
        if tokens[-1] in self._end_ids:
            return True
        if not self._stop or not self._can_complete(tokens[-1]):
            return False
        text = self._decode(tokens)
        return any(stop in text for stop in self._stop)

    def text(self, tokens: Sequence[int]) -> str:
        """The answer without special tokens, cut before the first stop string in it."""
        text = self._decode(tokens)
        return text[: min((text.index(stop) for stop in self._stop if stop in text), default=len(text))]

    def _decode(self, tokens: Sequence[int]) -> str:
        ids = [token for token in tokens if token not in self._end_ids]
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _can_complete(self, token: int) -> bool:
        """Whether ``token`` can bring a stop string's last character."""
        if token not in self._may_end:
            alone = self._decode([token])
            # Some tokenizers drop a leading space of a text; a character in parts shows as a replacement character.
            hidden = not alone or "\ufffd" in alone or any(stop[-1] == " " for stop in self._stop)
            self._may_end[token] = hidden or any(stop[-1] in alone for stop in self._stop)
        return self._may_end[token]


def row_seeds(prompts: Sequence[Sequence[int]], seed: int) -> list[int]:
    """One seed per row, from the prompt's ids and how often it came before: order and batch size play no part."""
    seen: Counter[str] = Counter()
    seeds = []
    for prompt in prompts:
        text = json.dumps([int(token) for token in prompt])
        digest = hashlib.sha256(f"{seed} {seen[text]} {text}".encode()).digest()
        seeds.append(int.from_bytes(digest[:7], "big"))
        seen[text] += 1
    return seeds
