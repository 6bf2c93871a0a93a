"""A whole small task, as the protocol asks: is a word short? Answered in words, by label and by text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapter_exp.tasks.protocol import Answer, Choose, Example, Generate, Metrics, Outcome, Perplexity, Split, Sums

LABELS = ("short", "long")


@dataclass(frozen=True)
class Word(Example):
    word: str


@dataclass
class ToyTask:
    samples: int = 1
    name: str = "toy"
    version: int = 1
    system: str = "Is the word short or long?"
    stop: tuple[str, ...] = ("\n",)
    max_new_tokens: int = 6
    primary: str = "accuracy_loglik"

    def load(self, split: Split) -> Sequence[Word]:
        words = {
            "train": ["oak"],
            "validation": ["ash"],
            "test": ["a", "cat", "elephant", "dog", "hippopotamus", "yew"],
        }
        return [Word(f"{split}-{k}", f"g{k % 3}", word) for k, word in enumerate(words[split])]

    def prompt(self, example: Word) -> str:
        return f"Word: {example.word}"

    def target(self, example: Word) -> str:
        return LABELS[len(example.word) > 3]

    def content(self, example: Word) -> Mapping[str, Any]:
        return {"word": example.word}

    def requests(self, example: Word) -> Sequence[Generate | Choose | Perplexity]:
        return [Generate(self.samples), Choose(LABELS), Perplexity(example.word)]

    def parse(self, text: str) -> str | None:
        return text.strip() if text.strip() in LABELS else None

    def score(self, example: Word, answers: Sequence[Answer]) -> Outcome:
        generated, chosen, perplexity = answers
        parsed = [self.parse(text) for text in generated.texts]
        label = LABELS[int(np.argmax(chosen.logprobs))]
        statistics = {
            "right_generated": float(self.target(example) in parsed),
            "right_loglik": float(label == self.target(example)),
            "short": float(self.target(example) == "short"),
            "nats": -perplexity.logprobs[0],
            "tokens": float(perplexity.new_tokens),
        }
        return Outcome(prediction=label, parsed=None not in parsed, statistics=statistics)

    def aggregate(self, sums: Sums) -> Metrics:
        return {
            "accuracy_generated": sums["right_generated"] / sums["items"],
            "accuracy_loglik": sums["right_loglik"] / sums["items"],
            "perplexity": np.exp(sums["nats"] / sums["tokens"]),
        }

    def baselines(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        share = sum(one.statistics["short"] for one in outcomes) / len(outcomes)
        return {"accuracy_generated": max(share, 1 - share), "accuracy_loglik": max(share, 1 - share)}
