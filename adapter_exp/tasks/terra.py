"""Textual entailment in Russian: does the hypothesis follow from the premise?"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapter_exp.data.bundled import bundled_path
from adapter_exp.tasks.config import TerraConfig
from adapter_exp.tasks.metrics import Array, precision_recall_f1, ratio
from adapter_exp.tasks.protocol import Answer, Choose, Example, Generate, Metrics, Outcome, Request, Split, Sums
from adapter_exp.tasks.readers.pairs import PairSource
from adapter_exp.tasks.readers.terra import LABELS

Config = TerraConfig
WAYS = ("generated", "loglik")
UNPARSED = "unparsed"


@dataclass(frozen=True)
class TerraExample(Example):
    """A premise, a hypothesis and whether it follows."""

    premise: str
    hypothesis: str
    label: str


class TerraTask:
    """Two ways to one label: read from a free answer (``*_generated``), or the likelier label word (``*_loglik``).

    Likelier means the higher *sum* of the log-likelihoods of the label's tokens and the end token, not the mean per
    token: a label word of more tokens is at a disadvantage. A tie goes to the first label.

    ``macro_*`` are unweighted means over the two labels, with 0 for a ratio that has an empty denominator. An answer
    that does not parse is a class of its own in the confusion matrix: it lowers its true label's recall and is never
    taken for a label.
    """

    primary = "accuracy_loglik"

    def __init__(self, config: TerraConfig) -> None:
        self.config = config
        self.name = config.name
        self.version = config.version
        self.system = config.system
        self.stop = config.stop
        self.max_new_tokens = config.max_new_tokens
        self.duplicates: dict[Split, int] = {}  # pairs dropped from a loaded split because an equal one was there
        self._loaded: dict[Split, list[TerraExample]] = {}
        self._words: dict[str, str] = config.labels.model_dump()
        self._label_of = {word.casefold(): label for label, word in self._words.items()}

    def load(self, split: Split) -> Sequence[TerraExample]:
        """Read one split."""
        if split not in self._loaded:
            config = self.config
            source = PairSource(
                path=bundled_path("terra") if config.path is None else Path(config.path).expanduser(),
                sizes={"train": config.max_train, "validation": config.max_validation, "test": config.max_eval},
                seed=config.split_seed,
            )
            draw = source.draw(split)
            self.duplicates[split] = draw.duplicates
            self._loaded[split] = [
                TerraExample(p.id, _group(p.premise), p.premise, p.hypothesis, p.label) for p in draw.items()
            ]
        return self._loaded[split]

    def prompt(self, example: Example) -> str:
        """Premise and hypothesis in the prompt template."""
        own = _own(example)
        return self.config.prompt.format(premise=own.premise, hypothesis=own.hypothesis)

    def target(self, example: Example) -> str:
        """The answer word of the label."""
        return self._words[_own(example).label]

    def content(self, example: Example) -> Mapping[str, Any]:
        """Premise, hypothesis and label."""
        own = _own(example)
        return {"premise": own.premise, "hypothesis": own.hypothesis, "label": own.label}

    def requests(self, example: Example) -> Sequence[Request]:
        """One free answer and the likelihood of each label word."""
        return (Generate(), Choose(tuple(self._words[label] for label in LABELS)))

    def parse(self, text: str) -> str | None:
        """The label whose word the answer begins with; None for another word or when both words occur."""
        words = re.findall(r"\w+", text.casefold())
        if not words or all(word in words for word in self._label_of):
            return None
        return self._label_of.get(words[0])

    def score(self, example: Example, answers: Sequence[Answer]) -> Outcome:
        """One confusion cell for each way; the prediction holds both labels."""
        free, choice = answers
        generated = self.parse(free.texts[0])
        likelier = LABELS[int(np.argmax(choice.logprobs))]
        label = _own(example).label
        statistics = self._cells(label, {"generated": generated or UNPARSED, "loglik": likelier})
        return Outcome({"generated": generated, "loglik": likelier}, generated is not None, statistics)

    def aggregate(self, sums: Sums) -> Metrics:
        """Accuracy and macro scores of each way, and the share of free answers that parse; shapes (...) as given."""
        metrics: Metrics = {}
        for way in WAYS:
            scores = [_one_against_rest(sums, way, label) for label in LABELS]
            metrics[f"accuracy_{way}"] = ratio(_total(sums, [_cell(way, x, x) for x in LABELS]), sums["items"])
            for place, name in enumerate(("precision", "recall", "f1")):
                metrics[f"macro_{name}_{way}"] = np.mean([score[place] for score in scores], axis=0)
        unparsed = _total(sums, [_cell("generated", label, UNPARSED) for label in LABELS])
        metrics["parse_rate"] = ratio(sums["items"] - unparsed, sums["items"])
        return metrics

    def baselines(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Metrics of answering the more frequent label of these items to all of them."""
        gold = Counter({label: round(sum(_gold(o, label) for o in outcomes)) for label in LABELS})
        majority = max(LABELS, key=lambda label: gold[label])
        totals: dict[str, float] = dict.fromkeys(outcomes[0].statistics, 0.0)
        for label, number in gold.items():
            for key, value in self._cells(label, dict.fromkeys(WAYS, majority)).items():
                totals[key] += value * number
        metrics = self.aggregate({key: np.asarray(value) for key, value in totals.items()})
        return {name: float(value) for name, value in metrics.items() if name != "parse_rate"}

    def _cells(self, label: str, predicted: Mapping[str, str]) -> dict[str, float]:
        cells = {_cell(way, true, guess): 0.0 for way in WAYS for true in LABELS for guess in (*LABELS, UNPARSED)}
        for way, guess in predicted.items():
            cells[_cell(way, label, guess)] = 1.0
        return {"items": 1.0, **cells}


def build(config: TerraConfig) -> TerraTask:
    """The task that ``config`` describes."""
    return TerraTask(config)


def _total(sums: Sums, keys: Sequence[str]) -> Array:
    """Sum of several statistics; shape (...)."""
    return np.asarray(np.sum([sums[key] for key in keys], axis=0), np.float64)


def _one_against_rest(sums: Sums, way: str, label: str) -> tuple[Array, Array, Array]:
    """Precision, recall and F1 of one label."""
    others = [other for other in LABELS if other != label]
    tp = _total(sums, [_cell(way, label, label)])
    fp = _total(sums, [_cell(way, other, label) for other in others])
    fn = _total(sums, [_cell(way, label, guess) for guess in (*others, UNPARSED)])
    return precision_recall_f1(tp, fp, fn)


def _cell(way: str, true: str, guess: str) -> str:
    return f"{way}:{true}>{guess}"


def _gold(outcome: Outcome, label: str) -> float:
    return sum(outcome.statistics[_cell("loglik", label, guess)] for guess in LABELS)


def _group(premise: str) -> str:
    return hashlib.sha256(premise.encode()).hexdigest()[:16]


def _own(example: Example) -> TerraExample:
    assert isinstance(example, TerraExample)
    return example
