"""Bootstrap and sign flips over whole documents, for many models and many metrics at once.

Both are one matrix product: a task's metrics are functions of summed statistics (``Task.aggregate``), so a resample of
the documents needs only their sums, and all models, metrics and comparisons share the draws. SciPy's ``bootstrap`` and
``permutation_test`` take one comparison at a time; the tests hold this module to their results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapter_exp.comparison.tasks import Statistics
from adapter_exp.evaluation.statistics import ITEMS
from adapter_exp.tasks.protocol import Metrics, Sums

Aggregate = Callable[[Sums], Metrics]
Array = NDArray[np.float64]
Pairs = Sequence[tuple[int, int]]

_CELLS = 2**22  # numbers in the largest array of one batch: 32 MiB
_PAIR_CELLS = 2**18  # numbers in one statistic's array while pairs are compared: it stays in the cache
_ROUNDING = 1e-12  # differences this close are equal: averages over seeds round


@dataclass(frozen=True)
class Scores:
    """Statistics of several models on the same items, summed by document.

    Attributes:
        keys: names of the statistics; ``items`` is one of them and counts the document's items.
        sums: shape (models, documents, keys).
        runs: how many runs each model is averaged over; more than one makes an item's score no longer right or wrong.
    """

    keys: tuple[str, ...]
    sums: Array
    runs: tuple[int, ...]

    @property
    def documents(self) -> int:
        """Units that are resampled."""
        return int(self.sums.shape[1])

    @property
    def items(self) -> int:
        """Items of each model."""
        return round(float(self.sums[0, :, self.keys.index(ITEMS)].sum()))

    def metrics(self, aggregate: Aggregate) -> Metrics:
        """Each metric of each model, shape (models,)."""
        return _metrics(aggregate, self.keys, self.sums.sum(axis=1).T)

    def by_document(self, aggregate: Aggregate) -> Metrics:
        """Each metric of each model on each document alone, shape (models, documents)."""
        return _metrics(aggregate, self.keys, np.moveaxis(self.sums, -1, 0))


def bootstrap(aggregate: Aggregate, scores: Scores, *, resamples: int, seed: int) -> Metrics:
    """Every metric of every model over ``resamples`` draws of the documents, shape (models, resamples).

    Draw r takes the same documents for all models, so that differences between models are paired.

    Source: Efron & Tibshirani 1993, ch. 13; resampling clusters: Davison & Hinkley 1997, sec. 3.8.
    """
    documents = scores.documents
    generator = np.random.default_rng(seed)
    flat = _flat(scores)
    batches: list[Metrics] = []
    for size in _sizes(resamples, _CELLS // max(documents, flat.shape[0])):
        drawn = generator.integers(0, documents, (size, documents))
        weights = _counts(drawn, documents)
        batches.append(_metrics(aggregate, scores.keys, _shaped(flat @ weights.T, scores)))
    return {name: np.concatenate([batch[name] for batch in batches], axis=-1) for name in batches[0]}


def sign_flip_p(aggregate: Aggregate, scores: Scores, pairs: Pairs, *, flips: int, seed: int) -> dict[str, Array]:
    """Two-sided p-values of equal metrics for pairs of models, by exchanging the two models' answers.

    If two models are alike, it is chance which of them gave which of the two answers to a document. Each flip exchanges
    the answers on a random half of the documents and computes the metric of both again; p is the share of flips with
    a difference at least as large as the one observed, the observed one counted in. Where there are no more than
    ``flips`` ways to exchange, all are tried and p is exact.

    Args:
        pairs: model numbers.

    Returns:
        by metric, shape (pairs,); NaN where a model's metric is not finite.

    Source: Noreen 1989, ch. 2 (approximate randomization); Phipson & Smyth 2010 for the one that is added.
    """
    observed = scores.metrics(aggregate)
    first, second = (np.array(side, dtype=np.intp) for side in zip(*pairs, strict=True))
    limits = {name: np.abs(values[first] - values[second]) - _ROUNDING for name, values in observed.items()}
    hits = {name: np.zeros(len(pairs), dtype=np.int64) for name in observed}
    flat = _flat(scores)
    whole = _shaped(flat.sum(axis=1, keepdims=True), scores)
    exact = 2**scores.documents <= flips
    for chosen in _exchanges(scores.documents, flips, exact, seed, _CELLS // max(scores.documents, flat.shape[0])):
        given = _shaped(flat @ chosen, scores)  # (keys, models, flips): what each model gives away
        step = max(1, _PAIR_CELLS // chosen.shape[1])
        for start in range(0, len(pairs), step):
            part = slice(start, start + step)
            one, other = first[part], second[part]
            moved = given[:, other] - given[:, one]
            swapped = [
                _metrics(aggregate, scores.keys, sums) for sums in (whole[:, one] + moved, whole[:, other] - moved)
            ]
            for name in hits:
                difference = np.abs(swapped[0][name] - swapped[1][name])
                hits[name][part] += (difference >= limits[name][part, None]).sum(axis=-1)
    added, ways = (0, 2**scores.documents) if exact else (1, 1 + flips)
    return {name: np.where(np.isnan(limits[name]), np.nan, (added + hits[name]) / ways) for name in hits}


def _exchanges(documents: int, flips: int, exact: bool, seed: int, batch: int) -> Iterator[Array]:
    """Which documents are exchanged: 0 or 1, shape (documents, flips of this batch)."""
    if exact:
        numbers = np.arange(2**documents)
        yield (numbers[None, :] >> np.arange(documents)[:, None] & 1).astype(np.float64)
        return
    generator = np.random.default_rng(seed)
    for size in _sizes(flips, batch):
        yield generator.integers(0, 2, (size, documents), dtype=np.int8).T.astype(np.float64)


def _sizes(total: int, batch: int) -> Iterator[int]:
    step = max(1, batch)
    for start in range(0, total, step):
        yield min(step, total - start)


def _counts(drawn: NDArray[np.int64], documents: int) -> Array:
    """How often each document was drawn: (draws, documents) numbers -> (draws, documents) counts."""
    cells = drawn + documents * np.arange(len(drawn))[:, None]
    return np.bincount(cells.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float64)


def _flat(scores: Scores) -> Array:
    """(keys * models, documents): one row is one statistic of one model."""
    models, documents, keys = scores.sums.shape
    return np.ascontiguousarray(np.moveaxis(scores.sums, -1, 0)).reshape(keys * models, documents)


def _shaped(sums: Array, scores: Scores) -> Array:
    """(keys * models, draws) -> (keys, models, draws)."""
    return sums.reshape(len(scores.keys), len(scores.sums), -1)


def _metrics(aggregate: Aggregate, keys: Sequence[str], sums: Array) -> Metrics:
    """(keys, ...) -> each metric (...)."""
    named: Mapping[str, Array] = Statistics(zip(keys, sums, strict=True))
    shape = sums.shape[1:]
    return {name: np.broadcast_to(value, shape) for name, value in aggregate(named).items()}
