"""Named entities of Russian news: the model lists them as ``[Татьяна Голикова](PER) [России](LOC)``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapter_exp.data.bundled import bundled_path
from adapter_exp.tasks.config import NerusConfig
from adapter_exp.tasks.metrics import precision_recall_f1, ratio
from adapter_exp.tasks.protocol import Answer, Example, Generate, Metrics, Outcome, Request, Split, Sums
from adapter_exp.tasks.readers.conllu import Sentence
from adapter_exp.tasks.readers.sentences import SentenceSource

Config = NerusConfig
Mark = tuple[str, str]
"""Entity type and text."""


@dataclass(frozen=True)
class NerusExample(Example):
    """A sentence and its entities, in order of appearance."""

    text: str
    marks: tuple[Mark, ...]


class NerusTask:
    """Entity marks against gold spans, matched exactly on text and type, each mention counted (a multiset).

    ``micro_*`` pool the counts of all sentences, ``<type>_f1`` those of one type. ``macro_*`` are means over sentences
    of the sentence's own precision, recall and F1, which are 1 when neither gold nor answer has an entity and 0 when
    only one of them has (the convention of SQuAD 2.0 for questions without an answer, Rajpurkar et al. 2018).
    An answer that does not parse scores 0 on its sentence, also where there is nothing to find, and misses every
    gold entity.
    """

    primary = "micro_f1"

    def __init__(self, config: NerusConfig) -> None:
        self.config = config
        self.name = config.name
        self.version = config.version
        self.system = config.system
        self.stop = config.stop
        self.max_new_tokens = config.max_new_tokens
        self.duplicates: dict[Split, int] = {}  # sentences dropped from a loaded split because their text was there
        self._loaded: dict[Split, list[NerusExample]] = {}
        self._mark = re.compile(rf"\[([^\[\]]*)\]\s*\(\s*({'|'.join(map(re.escape, config.types))})\s*\)")
        self._empty = re.compile(rf"[\W_]*{re.escape(config.empty_answer)}[\W_]*", re.IGNORECASE)

    def load(self, split: Split) -> Sequence[NerusExample]:
        """Read one split; a single file is read once for all three."""
        if split not in self._loaded:
            config = self.config
            source = SentenceSource(
                path=bundled_path("nerus") if config.path is None else Path(config.path).expanduser(),
                sizes={"train": config.max_train, "validation": config.max_validation, "test": config.max_eval},
                seed=config.split_seed,
                types=config.types,
                min_chars=config.min_chars,
                max_chars=config.max_chars,
            )
            for drawn, draw in source.draw(split).items():
                self.duplicates[drawn] = draw.duplicates
                if examples := [_example(sentence) for sentence in draw.items()]:
                    self._loaded[drawn] = examples  # an empty split stays a fault for whoever asks for it
        return self._loaded[split]

    def prompt(self, example: Example) -> str:
        """The sentence in the prompt template."""
        return self.config.prompt.format(text=_own(example).text)

    def target(self, example: Example) -> str:
        """The marks in order of appearance, or the empty answer."""
        marks = _own(example).marks
        return " ".join(f"[{text}]({kind})" for kind, text in marks) or self.config.empty_answer

    def content(self, example: Example) -> Mapping[str, Any]:
        """Text and marks."""
        return {"text": _own(example).text, "marks": [list(mark) for mark in _own(example).marks]}

    def requests(self, example: Example) -> Sequence[Request]:
        """One free answer."""
        return (Generate(),)

    def parse(self, text: str) -> list[list[str]] | None:
        """``[type, text]`` of each mark, in order; [] for the empty answer, None when there is neither.

        Text around the marks is ignored, and so are marks of a type that was not asked for. The empty answer has to
        stand alone, apart from punctuation: its word also occurs in sentences that say nothing about entities.
        """
        marks = [[kind, _plain(found)] for found, kind in self._mark.findall(text) if found.strip()]
        return marks if marks or self._empty.fullmatch(text) else None

    def score(self, example: Example, answers: Sequence[Answer]) -> Outcome:
        """Counts of right, wrong and missed marks, pooled and by type, and the sentence's own scores."""
        prediction = self.parse(answers[0].texts[0])
        gold = Counter(_own(example).marks)
        found = Counter((kind, text) for kind, text in prediction or ())
        return Outcome(prediction, prediction is not None, self._statistics(gold, found, prediction is not None))

    def aggregate(self, sums: Sums) -> Metrics:
        """Micro, per-type and sentence-averaged scores; shapes (...) as given."""
        precision, recall, f1 = precision_recall_f1(sums["tp"], sums["fp"], sums["fn"])
        metrics = {"micro_precision": precision, "micro_recall": recall, "micro_f1": f1}
        for kind in self.config.types:
            counts = (sums[f"{count}_{kind}"] for count in ("tp", "fp", "fn"))
            metrics[f"{kind.lower()}_f1"] = precision_recall_f1(*counts)[2]
        for name, statistic in _MEANS.items():
            metrics[name] = ratio(sums[statistic], sums["items"])
        return metrics

    def baselines(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Metrics of answering "no entities" to every sentence."""
        totals: Counter[str] = Counter()
        for outcome in outcomes:
            gold = Counter({(kind, ""): _gold_count(outcome, kind) for kind in self.config.types})
            totals.update(self._statistics(+gold, Counter(), parsed=True))
        metrics = self.aggregate({key: np.asarray(float(value)) for key, value in totals.items()})
        return {name: float(value) for name, value in metrics.items() if name != "parse_rate"}

    def _statistics(self, gold: Counter[Mark], found: Counter[Mark], parsed: bool) -> dict[str, float]:
        right = gold & found
        statistics: dict[str, float] = {"items": 1.0, "parsed": float(parsed)}
        for suffix, kinds in [("", self.config.types), *((f"_{kind}", (kind,)) for kind in self.config.types)]:
            tp = _count(right, kinds)
            statistics |= {
                f"tp{suffix}": tp,
                f"fp{suffix}": _count(found, kinds) - tp,
                f"fn{suffix}": _count(gold, kinds) - tp,
            }
        statistics["exact"] = float(parsed and gold == found)
        scores = precision_recall_f1(*(np.asarray(statistics[count]) for count in ("tp", "fp", "fn")))
        agree_on_nothing = parsed and not gold and not found
        for name, score in zip(("precision", "recall", "f1"), scores, strict=True):
            statistics[name] = 1.0 if agree_on_nothing else float(score)
        return statistics


_MEANS = {
    "macro_precision": "precision",
    "macro_recall": "recall",
    "macro_f1": "f1",
    "exact_match": "exact",
    "parse_rate": "parsed",
}


def build(config: NerusConfig) -> NerusTask:
    """The task that ``config`` describes."""
    return NerusTask(config)


def _example(sentence: Sentence) -> NerusExample:
    marks = tuple((span.type, _plain(span.text)) for span in sentence.spans)
    return NerusExample(sentence.id, sentence.document, sentence.text, marks)


def _own(example: Example) -> NerusExample:
    assert isinstance(example, NerusExample)
    return example


def _plain(text: str) -> str:
    """Entity text as a mark can hold it: runs of white space are one blank, square brackets become round."""
    return " ".join(text.translate(_ROUND).split())


_ROUND = str.maketrans("[]", "()")


def _count(marks: Counter[Mark], kinds: Iterable[str]) -> float:
    return float(sum(number for (kind, _), number in marks.items() if kind in kinds))


def _gold_count(outcome: Outcome, kind: str) -> int:
    return int(outcome.statistics[f"tp_{kind}"] + outcome.statistics[f"fn_{kind}"])
