"""The vectorised statistics against SciPy and statsmodels, and what must not matter to them."""

from __future__ import annotations

import math
import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from adapter_exp.comparison.decisions import finding, holm, items_needed, smallest_difference
from adapter_exp.comparison.resampling import Scores, bootstrap, sign_flip_p
from adapter_exp.comparison.significance import compare_models, flips_for
from adapter_exp.evaluation.statistics import paired_change
from adapter_exp.tasks.metrics import precision_recall_f1, ratio

KEYS = ("fn", "fp", "right", "tp", "items")


def aggregate(sums):
    """Micro F1 and accuracy."""
    return {
        "f1": precision_recall_f1(sums["tp"], sums["fp"], sums["fn"])[2],
        "accuracy": ratio(sums["right"], sums["items"]),
    }


def simulate(models, documents, seed, *, per_document=1, runs=None) -> Scores:
    draw = np.random.default_rng(seed)
    shape = (models, documents, per_document)
    counts = [
        draw.integers(0, 3, shape),
        draw.integers(0, 3, shape),
        draw.random(shape) < 0.6,
        draw.integers(0, 4, shape),
    ]
    sums = np.stack([*counts, np.ones(shape)], axis=-1).sum(axis=2).astype(float)
    return Scores(KEYS, sums, runs or (1,) * models)


def test_resamples_are_those_of_scipy():
    """Through `paired_change`, which draws by `scipy.stats.bootstrap`: equal seeds give equal intervals."""
    scores = simulate(2, 40, seed=0)
    rows = [[dict(zip(KEYS[:-1], item, strict=False)) for item in model] for model in scores.sums.tolist()]
    names = [f"{k:03d}" for k in range(40)]
    wanted = paired_change(
        aggregate, *rows, base_hashes=names, adapted_hashes=names, groups=names, resamples=500, seed=3
    )  # fmt: skip
    got = compare_models(aggregate, scores, [[(1, 0)]], resamples=500, seed=3)
    for name, interval in wanted.items():
        change = got[name].families[0].change
        assert [change.values[0], change.low[0], change.high[0]] == pytest.approx(
            [interval.value, interval.low, interval.high], abs=1e-12
        )


def test_sign_flips_agree_with_scipy():
    scores = simulate(2, 25, seed=1, per_document=3)
    numbers = np.arange(scores.documents)

    def difference(first, second, axis):
        totals = [scores.sums[model.astype(int), numbers].sum(axis=-2) for model in (first, second)]
        left, right = (aggregate(dict(zip(KEYS, np.moveaxis(one, -1, 0), strict=True)))["f1"] for one in totals)
        return left - right

    zeros = np.zeros(scores.documents, dtype=int)
    wanted = stats.permutation_test(
        (zeros + 1, zeros), difference, permutation_type="samples", n_resamples=20_000, vectorized=True, rng=0
    ).pvalue
    got = sign_flip_p(aggregate, scores, [(1, 0)], flips=20_000, seed=0)["f1"][0]
    assert got == pytest.approx(wanted, abs=0.015)


def test_few_documents_are_permuted_exactly():
    scores = simulate(3, 8, seed=2, per_document=2)
    pairs = list(combinations(range(3), 2))
    wanted = []
    for first, second in pairs:
        a, b = scores.sums[first], scores.sums[second]
        seen = []
        for chosen in range(2**8):
            swap = np.array([chosen >> k & 1 for k in range(8)])[:, None]
            left, right = (a * (1 - swap) + b * swap).sum(0), (b * (1 - swap) + a * swap).sum(0)
            f1 = [aggregate(dict(zip(KEYS, sums, strict=True)))["f1"] for sums in (left, right)]
            seen.append(abs(f1[0] - f1[1]))
        wanted.append(np.mean(np.array(seen) >= seen[0] - 1e-12))
    got = sign_flip_p(aggregate, scores, pairs, flips=256, seed=0)["f1"]
    assert got == pytest.approx(wanted)


def test_right_or_wrong_items_get_mcnemar():
    """40 items gained and 22 lost: the exact binomial p, by hand from SciPy."""
    right = np.array([[1.0] * 22 + [0.0] * 40 + [1.0] * 100, [0.0] * 22 + [1.0] * 40 + [1.0] * 100])
    scores = Scores(("right", "items"), np.stack([right, np.ones_like(right)], axis=-1), (1, 1))
    got = compare_models(lambda sums: {"accuracy": sums["right"] / sums["items"]}, scores, [[(1, 0)]], resamples=500)
    family = got["accuracy"].families[0]
    assert family.tests == ("mcnemar",)
    assert family.p[0] == pytest.approx(stats.binomtest(22, 62).pvalue)


def test_averages_groups_and_other_metrics_are_permuted():
    single, averaged, documents = (
        simulate(2, 50, 3),
        simulate(2, 50, 3, runs=(1, 3)),
        simulate(2, 25, 3, per_document=2),
    )
    tests = [
        {
            name: found.families[0].tests[0]
            for name, found in compare_models(aggregate, scores, [[(1, 0)]], resamples=200).items()
        }
        for scores in (single, averaged, documents)
    ]
    assert tests[0] == {"f1": "sign_flip", "accuracy": "mcnemar"}
    assert tests[1] == tests[2] == {"f1": "sign_flip", "accuracy": "sign_flip"}


def test_holm_is_that_of_statsmodels_over_what_was_tested():
    p = np.array([0.001, math.nan, 0.04, 0.03, 0.2])
    known = [0, 2, 3, 4]
    assert holm(p)[known] == pytest.approx(multipletests(p[known], method="holm")[1])
    assert math.isnan(holm(p)[1])


def test_metrics_that_a_model_lacks_are_not_counted():
    scores = simulate(3, 60, 4)
    whole = compare_models(aggregate, scores, [[(1, 0), (2, 0)]], resamples=300)["f1"].families[0]
    part = compare_models(
        aggregate, scores, [[(1, 0), (2, 0)]], available={"f1": np.array([True, True, False])}, resamples=300
    )["f1"].families[0]  # fmt: skip
    assert part.findings[1] == "not_measured" and part.tests[1] is None and math.isnan(part.p_holm[1])
    assert part.p[0] == whole.p[0] and part.p_holm[0] == part.p[0]


def test_a_direction_needs_test_and_interval():
    assert finding(0.01, 0.1, 0.3) == "higher"
    assert finding(0.01, -0.3, -0.1) == "lower"
    assert finding(0.06, 0.1, 0.3) == "tie"
    assert finding(0.01, -0.01, 0.3) == "tie"
    assert finding(math.nan, 0.1, 0.3) == "not_measured"


def test_smallest_difference_is_found_four_times_in_five():
    """Normal differences of standard error 0.02, tested at the first step of Holm over 8."""
    smallest = smallest_difference(np.array([0.02, 0.02, 0.0, math.nan]), 8)
    observed = np.random.default_rng(0).normal(smallest, 0.02, 100_000)
    found = 2 * stats.norm.sf(np.abs(observed) / 0.02) < 0.05 / 8
    assert found.mean() == pytest.approx(0.8, abs=0.005)
    assert math.isnan(smallest_difference(np.array([0.0]), 8))


def test_items_needed_make_the_observed_change_the_smallest():
    needed = items_needed(np.array([0.02, 0.0]), np.array([0.015, 0.01]), 300, 8)
    assert smallest_difference(np.array([0.015]) * math.sqrt(300 / needed[0]), 8) == pytest.approx(0.02, rel=1e-3)
    assert math.isnan(needed[1])


def test_relative_change_of_nothing_is_none_and_rare_zeros_have_no_end():
    sums = np.zeros((3, 20, 2))
    sums[..., 1] = 1
    sums[1, :3, 0] = 1  # base: 3 of 20, in 4 % of the resamples none
    sums[2, :15, 0] = 1
    scores = Scores(("right", "items"), sums, (1, 1, 1))
    got = compare_models(lambda s: {"accuracy": s["right"] / s["items"]}, scores, [[(2, 0), (2, 1)]], resamples=2000)
    relative = got["accuracy"].families[0].relative
    assert math.isnan(relative.values[0]) and math.isnan(relative.low[0])
    assert relative.values[1] == pytest.approx(4.0)
    assert math.isnan(relative.low[1]) and math.isnan(relative.high[1])


def test_one_document_has_values_only():
    got = compare_models(aggregate, simulate(2, 1, 5, per_document=9), [[(1, 0)]], resamples=100)["f1"]
    family = got.families[0]
    assert math.isfinite(family.change.values[0]) and math.isnan(family.change.low[0])
    assert (family.tests, family.findings) == ((None,), ("not_measured",)) and math.isnan(family.smallest)


def test_flips_suffice_for_the_largest_family():
    assert flips_for(190, 10_000, 0.05) == 10_000
    assert 1225 / (flips_for(1225, 10_000, 0.05) + 1) < 0.05
    assert flips_for(10**6, 10_000, 0.05) == 50_000


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 30), st.integers(0, 999))
def test_exchanging_the_two_negates(documents, seed):
    scores = simulate(2, documents, seed)
    for found in compare_models(aggregate, scores, [[(0, 1)], [(1, 0)]], resamples=100).values():
        forth, back = found.families
        assert forth.change.values[0] == -back.change.values[0]
        assert [forth.change.low[0], forth.change.high[0]] == pytest.approx([-back.change.high[0], -back.change.low[0]])
        assert forth.p[0] == back.p[0]
        assert {forth.findings[0], back.findings[0]} in ({"tie"}, {"higher", "lower"})


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 30), st.integers(0, 999))
def test_equal_models_are_a_tie(documents, seed):
    once = simulate(1, documents, seed)
    for found in compare_models(
        aggregate, Scores(KEYS, np.repeat(once.sums, 2, axis=0), (1, 1)), [[(1, 0)]], resamples=100
    ).values():
        family = found.families[0]
        assert (family.p[0], family.findings[0]) == (1.0, "tie")
        assert (family.change.values[0], family.change.low[0], family.change.high[0]) == (0, 0, 0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.floats(0.1, 10))
def test_batches_and_scale_of_counts_do_not_matter(seed, factor):
    """F1 is a ratio: equal factors on all counts change nothing, and neither does the size of a batch."""
    scores = simulate(3, 20, seed)
    pairs = [(1, 0), (2, 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapter_exp.comparison.resampling._CELLS", 20 * 37)
        patch.setattr("adapter_exp.comparison.resampling._PAIR_CELLS", 1)
        small = sign_flip_p(aggregate, scores, pairs, flips=300, seed=0)["f1"]
        drawn = bootstrap(aggregate, scores, resamples=300, seed=0)["f1"]
    scaled = Scores(KEYS, scores.sums * factor, scores.runs)
    assert sign_flip_p(aggregate, scaled, pairs, flips=300, seed=0)["f1"] == pytest.approx(small, abs=2 / 300)
    assert bootstrap(aggregate, scaled, resamples=300, seed=0)["f1"] == pytest.approx(drawn)


def test_twenty_runs_are_quick():
    """20 runs x 2,000 items x 3 metrics, 10,000 resamples, against the base and in 190 pairs: the stated size."""

    def three(sums):
        return dict(
            zip(("precision", "recall", "f1"), precision_recall_f1(sums["tp"], sums["fp"], sums["fn"]), strict=True)
        )

    scores = simulate(21, 2000, 6)
    families = [[(k, 0) for k in range(1, 21)], list(combinations(range(1, 21), 2))]
    started = time.process_time()
    compare_models(three, scores, families, resamples=10_000)
    assert time.process_time() - started < 20
