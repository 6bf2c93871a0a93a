"""Error rates of the tests and intervals in simulations where the truth is known; all through `compare_models`.

The quick ones are small and their bounds wide; the slow ones have the sizes that the project states.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from adapter_exp.comparison.resampling import Scores
from adapter_exp.comparison.significance import compare_models
from adapter_exp.tasks.metrics import precision_recall_f1, ratio

CONFIGURATIONS, SEEDS = 8, 3
KEYS = ("tp", "fp", "fn", "right", "items")


def aggregate(sums):
    """Micro F1 and accuracy."""
    return {
        "f1": precision_recall_f1(sums["tp"], sums["fp"], sums["fn"])[2],
        "accuracy": ratio(sums["right"], sums["items"]),
    }


def answers(draw, hard, gold, models):
    """Counts of ``models`` that share the items' difficulty and nothing else, shape (models, items, keys)."""
    shape = (models, len(hard))
    found = draw.binomial(gold, 1 - hard, shape)
    invented = draw.random(shape) < 0.5 * hard
    right = draw.random(shape) < 1 - hard
    return np.stack([found, invented, gold - found, right, np.ones(shape)], axis=-1).astype(float)


def by_document(counts, documents):
    models, items, keys = counts.shape
    return counts.reshape(models, documents, items // documents, keys).sum(axis=2)


def null_sweep(seed, *, seeds=SEEDS, items=300, documents=300) -> Scores:
    """A base and 8 configurations, each averaged over its seeds, none better or worse than another."""
    draw = np.random.default_rng(seed)
    hard, gold = draw.beta(1, 1, items), draw.integers(0, 4, items)
    counts = answers(draw, hard, gold, 1 + CONFIGURATIONS * seeds)
    runs = counts[1:].reshape(CONFIGURATIONS, seeds, items, -1).mean(axis=1)
    sums = by_document(np.concatenate([counts[:1], runs]), documents)
    return Scores(KEYS, sums, (1, *(seeds,) * CONFIGURATIONS))


FAMILIES = {
    "against the base": [(k, 0) for k in range(1, CONFIGURATIONS + 1)],
    "pairs": list(combinations(range(1, CONFIGURATIONS + 1), 2)),
}
"""As a comparison corrects them; a difference in any of the 28 pairs puts alike configurations in several places."""


def false_alarms(sweeps, *, resamples=1000, **options) -> dict[tuple[str, str], float]:
    """Share of null sweeps with at least one difference claimed, by family and metric."""
    alarms = dict.fromkeys(product(FAMILIES, ("f1", "accuracy")), 0)
    for sweep in range(sweeps):
        scores = null_sweep(sweep, **options)
        found = compare_models(aggregate, scores, list(FAMILIES.values()), resamples=resamples, seed=sweep)
        for number, family in enumerate(FAMILIES):
            for name, tests in found.items():
                alarms[family, name] += any(one in ("higher", "lower") for one in tests.families[number].findings)
    return {key: count / sweeps for key, count in alarms.items()}


def discordant(seed, *, difference=0.1, share=0.2, items=300) -> Scores:
    """Right and wrong answers of two models that disagree on ``share`` of the items, one ``difference`` better."""
    draw = np.random.default_rng(seed)
    kind = draw.random(items)
    gained, lost = kind < (share + difference) / 2, (kind >= (share + difference) / 2) & (kind < share)
    both = draw.random(items) < 0.6
    right = np.where(gained, [[0], [1]], np.where(lost, [[1], [0]], both)).astype(float)
    zeros = np.zeros_like(right)
    return Scores(KEYS, np.stack([zeros, zeros, zeros, right, zeros + 1], axis=-1), (1, 1))


def power(simulations, comparisons, *, resamples=1000) -> float:
    """Share of simulations in which the true difference is found as one of so many comparisons, at Holm's first step.

    The other comparisons show nothing at all (p = 1), so the true one is the first step.
    """
    found = 0
    for seed in range(simulations):
        scores = discordant(seed)
        family = [(1, 0), *[(0, 0)] * (comparisons - 1)]
        result = compare_models(aggregate, scores, [family], resamples=resamples, seed=seed)["accuracy"].families[0]
        assert result.tests[0] == "mcnemar"
        found += result.findings[0] == "higher"
    return found / simulations


def coverage(simulations, *, documents=100, per_document=3, resamples=1000) -> dict[str, float]:
    """Share of 95 % intervals of the change that hold the true change, items of a document sharing their difficulty."""
    truth = true_change()
    hits = dict.fromkeys(truth, 0)
    for seed in range(simulations):
        draw = np.random.default_rng(10_000 + seed)
        scores = Scores(KEYS, by_document(pair(draw, documents, per_document), documents), (1, 1))
        found = compare_models(aggregate, scores, [[(1, 0)]], resamples=resamples, seed=seed)
        for name, value in truth.items():
            change = found[name].families[0].change
            hits[name] += change.low[0] <= value <= change.high[0]
    return {name: count / simulations for name, count in hits.items()}


def pair(draw, documents, per_document):
    """Base and a better model on documents of equal size."""
    hard = np.repeat(draw.beta(2, 2, documents), per_document)
    gold = draw.integers(0, 4, len(hard))
    return np.concatenate([answers(draw, hard, gold, 1), answers(draw, 0.7 * hard, gold, 1)])


def true_change() -> dict[str, float]:
    """The change on a million documents."""
    sums = pair(np.random.default_rng(1), 1_000_000, 1).sum(axis=1)
    before, after = (aggregate(dict(zip(KEYS, model, strict=True))) for model in sums)
    return {name: float(after[name] - before[name]) for name in before}


def at_most(share, simulations):
    """``share`` and two standard errors of its estimate."""
    return share + 2 * (share * (1 - share) / simulations) ** 0.5


def test_null_sweeps_raise_few_alarms():
    for key, share in false_alarms(200, items=60, documents=60, resamples=400).items():
        assert share <= at_most(0.05, 200), key


def test_a_true_difference_is_found():
    assert power(60, 1, resamples=300) >= 0.85


def test_intervals_cover_the_truth():
    for name, share in coverage(150, resamples=400).items():
        assert share >= 0.90, name


def test_pooled_seeds_would_raise_false_alarms():
    """What averaging avoids: seeds as further items multiply the base's answers, and alarms are no longer rare."""
    alarms = 0
    for sweep in range(100):
        draw = np.random.default_rng(sweep)
        hard, gold = draw.beta(1, 1, 150), draw.integers(0, 4, 150)
        counts = answers(draw, hard, gold, 1 + SEEDS)
        pooled = np.stack([np.tile(counts[0], (SEEDS, 1)), counts[1:].reshape(SEEDS * 150, -1)])
        result = compare_models(aggregate, Scores(KEYS, pooled, (1, 1)), [[(1, 0)]], resamples=400, seed=sweep)
        alarms += result["f1"].families[0].findings[0] != "tie"
    assert alarms / 100 > at_most(0.05, 100)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"documents": 100}], ids=["single items", "documents of three"])
def test_null_calibration(options):
    """1,000 sweeps of 8 configurations x 3 seeds without any true difference."""
    shares = false_alarms(1000, **options)
    print(f"familywise false alarms: {shares}")
    for key, share in shares.items():
        assert share <= at_most(0.05, 1000), key


@pytest.mark.slow
def test_power():
    """10 points on 300 paired items, 20 % discordant."""
    # McNemar's exact test draws nothing, so the resamples are for intervals that nobody looks at.
    alone, first_of_eight = (power(1000, comparisons, resamples=100) for comparisons in (1, CONFIGURATIONS))
    print(f"power: {alone:.3f} alone, {first_of_eight:.3f} at the first step over {CONFIGURATIONS}")
    assert alone >= 0.90
    assert first_of_eight >= 0.80


@pytest.mark.slow
def test_coverage():
    """95 % intervals of the change over 2,000 simulated pairs of models."""
    shares = coverage(2000)
    print(f"coverage: {shares}")
    for name, share in shares.items():
        assert 0.93 <= share <= 0.97, name
