"""How long the statistics of a comparison take, on one core, beside SciPy's functions called one comparison at a time.

    OMP_NUM_THREADS=1 python benchmarks/comparison_statistics.py

Prints the seconds for 20 runs x 2,000 items x 3 metrics with 10,000 resamples (all runs against the base and all 190
pairs), and the ratio to `scipy.stats.bootstrap` and `scipy.stats.permutation_test` on a few of these comparisons.
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from adapter_exp.comparison.resampling import Scores
from adapter_exp.comparison.significance import compare_models
from adapter_exp.tasks.metrics import precision_recall_f1
from adapter_exp.tasks.protocol import Metrics, Sums

Numbers = NDArray[Any]
KEYS = ("tp", "fp", "fn", "items")


def aggregate(sums: Sums) -> Metrics:
    """Micro precision, recall and F1."""
    precision, recall, f1 = precision_recall_f1(sums["tp"], sums["fp"], sums["fn"])
    return {"precision": precision, "recall": recall, "f1": f1}


def simulated(models: int, items: int, documents: int) -> Scores:
    """Counts of entities that are found, invented and missed; documents of equal size."""
    draw = np.random.default_rng(0)
    gold = draw.integers(0, 4, items)
    hard = draw.beta(2, 2, items)
    found = draw.binomial(gold, hard, (models, items))
    wrong = draw.binomial(1, 1 - hard, (models, items))
    counts = np.stack([found, wrong, gold - found, np.ones((models, items))], axis=-1)
    sums = counts.reshape(models, documents, items // documents, 4).sum(axis=2)
    return Scores(KEYS, sums.astype(float), (1,) * models)


def scipy_seconds(scores: Scores, resamples: int, comparisons: int) -> float:
    """Seconds of SciPy for bootstrap and permutation test of F1, for one comparison of many."""

    def f1_difference(chosen: Numbers, axis: int) -> Numbers:
        sums = [scores.sums[model][chosen].sum(axis=-2) for model in (1, 0)]
        first, second = (aggregate(dict(zip(KEYS, np.moveaxis(one, -1, 0), strict=True)))["f1"] for one in sums)
        return first - second

    def swapped(first: Numbers, second: Numbers, axis: int) -> Numbers:
        numbers = np.arange(scores.documents)
        one, other = (scores.sums[model.astype(int), numbers].sum(axis=-2) for model in (first, second))
        left, right = (aggregate(dict(zip(KEYS, np.moveaxis(sums, -1, 0), strict=True)))["f1"] for sums in (one, other))
        return left - right

    started = time.perf_counter()
    for _ in range(comparisons):
        stats.bootstrap(
            (np.arange(scores.documents),),
            f1_difference,
            n_resamples=resamples,
            batch=500,
            vectorized=True,
            method="percentile",
        )
        zeros = np.zeros(scores.documents, dtype=int)
        stats.permutation_test(
            (zeros + 1, zeros), swapped, permutation_type="samples", n_resamples=resamples, batch=500, vectorized=True
        )
    return (time.perf_counter() - started) / comparisons


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--documents", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=10_000)
    args = parser.parse_args()
    scores = simulated(args.runs + 1, args.items, args.documents)
    families = [[(k, 0) for k in range(1, args.runs + 1)], list(combinations(range(1, args.runs + 1), 2))]
    started, cpu = time.perf_counter(), time.process_time()
    compare_models(aggregate, scores, families, resamples=args.resamples)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    count = sum(map(len, families))
    size = f"{args.runs} runs x {args.items} items ({args.documents} documents) x 3 metrics"
    print(f"{size}, {args.resamples} resamples, {count} comparisons")
    print(f"adapter_exp: {seconds:.1f} s wall, {cpu:.1f} s of CPU")
    one = scipy_seconds(scores, args.resamples // 10, 2) * 10  # both are linear in the resamples
    print(f"scipy: {one:.1f} s for one comparison of one metric; {one * count * 3 / seconds:.0f} times as long for all")


if __name__ == "__main__":
    main()
