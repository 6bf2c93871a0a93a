"""The contract between tasks and everything that trains, evaluates or reports on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Example:
    """One item of a task. Tasks subclass it with the fields of their data.

    ``group`` names the unit that is resampled (source document, premise): items of one group are not independent.
    """

    id: str
    group: str


@dataclass(frozen=True)
class Generate:
    """Ask the model for ``samples`` free answers (one, greedy, unless the task says otherwise)."""

    samples: int = 1


@dataclass(frozen=True)
class Choose:
    """Ask for the log-likelihood of each of ``labels`` as the answer."""

    labels: tuple[str, ...]


@dataclass(frozen=True)
class Perplexity:
    """Ask for the log-likelihood of ``text`` as the answer."""

    text: str


Request = Generate | Choose | Perplexity


@dataclass(frozen=True)
class Answer:
    """What the model gave for one request.

    Attributes:
        texts: the generated texts (``Generate``), without the end-of-sequence token.
        logprobs: summed log-likelihood in nats of each label (``Choose``) or of the text (``Perplexity``).
        new_tokens: generated tokens over all samples, or scored tokens over all labels.
        milliseconds: this item's share of its batch's time.
    """

    texts: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    new_tokens: int = 0
    milliseconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """One example's result.

    Attributes:
        prediction: what was parsed from the answer (JSON-able), or None when it did not parse.
        parsed: whether the generated answer could be read at all; an answer that could not is counted, never guessed.
        statistics: numbers whose *sums* over items are all that the task's metrics need (true positives, one-hot
            confusion cells, ...). Every example of a task has the same keys.
    """

    prediction: Any
    parsed: bool
    statistics: Mapping[str, float] = field(default_factory=dict)


Sums = Mapping[str, NDArray[np.float64]]
Metrics = dict[str, NDArray[np.float64]]


class Task(Protocol):
    """A task is data and five pure functions; see ``docs/add_a_task.md``.

    ``name`` and ``version`` identify it in records: the version moves with every text that can change a score.
    ``system`` is the instruction shared by all examples ("" for none), ``stop`` the strings that end an answer,
    ``max_new_tokens`` the cap on one, ``primary`` the metric that selection and headlines use.
    """

    name: str
    version: int
    system: str
    stop: tuple[str, ...]
    max_new_tokens: int
    primary: str

    def load(self, split: Split) -> Sequence[Example]:
        """Read one split, deterministic in the task's own settings.

        Raises:
            UserError: when a file is missing, damaged or of another schema; the line names the file and line number.
        """

    def prompt(self, example: Example) -> str:
        """Return the user's message for ``example`` (without ``system``)."""

    def target(self, example: Example) -> str:
        """Return the completion that training supervises."""

    def content(self, example: Example) -> Mapping[str, Any]:
        """Return what the item *is*, without id and group (JSON-able): equal contents are the same item."""

    def requests(self, example: Example) -> Sequence[Request]:
        """Return what evaluation asks about ``example``; the same kinds in the same order for all examples."""

    def parse(self, text: str) -> Any | None:
        """Read a generated answer; None when it is not in the asked format."""

    def score(self, example: Example, answers: Sequence[Answer]) -> Outcome:
        """Judge the answers to ``requests(example)``, in that order."""

    def aggregate(self, sums: Sums) -> Metrics:
        """Metrics from summed statistics.

        Args:
            sums: each statistic summed over items, arrays of one shape ``(...)``: () for a plain evaluation,
                (resamples,) inside a bootstrap. The key ``items`` holds the number of items.

        Returns:
            every metric, an array of the same shape ``(...)``; 0 where a ratio has an empty denominator.
        """

    def baselines(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Metrics of trivial answers on the same items (majority label, empty answer), keyed like the metrics."""
