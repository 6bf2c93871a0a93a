from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_exp.evaluation.statistics import Interval, PairingError, metric_intervals, paired_change

SETTINGS = {"resamples": 300, "seed": 5}


def f1_and_accuracy(sums):
    """Two metrics of summed counts, 0 where a denominator is empty."""
    found = 2 * sums["tp"] + sums["wrong"]
    f1 = np.divide(2 * sums["tp"], found, out=np.zeros_like(found), where=found > 0)
    return {"f1": f1, "accuracy": sums["right"] / sums["items"]}


def simulate(items: int, groups: int, seed: int):
    draw = np.random.default_rng(seed)
    rows = [
        {"tp": float(draw.integers(0, 4)), "wrong": float(draw.integers(0, 4)), "right": float(draw.random() < 0.6)}
        for _ in range(items)
    ]
    return rows, [f"doc{k}" for k in draw.permutation(np.arange(items) % groups)]


def change(base, adapted, groups, **options):
    hashes = [str(k) for k in range(len(base))]
    return paired_change(
        f1_and_accuracy,
        base,
        adapted,
        base_hashes=hashes,
        adapted_hashes=hashes,
        groups=groups,
        **(SETTINGS | options),
    )


def plain_bootstrap(rows, groups, *, resamples, seed):
    """The same interval in a loop: draw whole groups, join their items, compute the metrics, take percentiles."""
    names = sorted(set(groups))
    members = {name: [row for row, group in zip(rows, groups, strict=True) if group == name] for name in names}
    generator = np.random.default_rng(seed)
    values = []
    for drawn in generator.integers(0, len(names), (resamples, len(names))):
        items = [row for k in drawn for row in members[names[k]]]
        sums = {key: np.float64(sum(row[key] for row in items)) for key in rows[0]} | {"items": np.float64(len(items))}
        values.append([sums["right"] / sums["items"], 2 * sums["tp"] / (2 * sums["tp"] + sums["wrong"])])
    return np.percentile(np.array(values), [2.5, 97.5], axis=0)


def test_equals_a_plain_loop_over_the_same_draws():
    rows, groups = simulate(40, 11, seed=0)
    got = metric_intervals(f1_and_accuracy, rows, groups, **SETTINGS)
    low, high = plain_bootstrap(rows, groups, **SETTINGS)
    assert [got["accuracy"].low, got["f1"].low] == pytest.approx(low)
    assert [got["accuracy"].high, got["f1"].high] == pytest.approx(high)
    assert got["accuracy"].value == pytest.approx(np.mean([row["right"] for row in rows]))


def test_batches_do_not_change_the_draws(monkeypatch):
    rows, groups = simulate(40, 11, seed=0)
    wanted = metric_intervals(f1_and_accuracy, rows, groups, **SETTINGS)
    monkeypatch.setattr("adapter_exp.evaluation.statistics._BATCH_NUMBERS", 11 * 7)
    assert metric_intervals(f1_and_accuracy, rows, groups, **SETTINGS) == wanted


def test_seed_decides():
    rows, groups = simulate(30, 30, seed=1)
    first = metric_intervals(f1_and_accuracy, rows, groups, **SETTINGS)
    assert metric_intervals(f1_and_accuracy, rows, groups, **SETTINGS) == first
    assert metric_intervals(f1_and_accuracy, rows, groups, resamples=300, seed=6) != first


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 25), st.integers(2, 9), st.integers(0, 999), st.randoms(use_true_random=False))
def test_item_order_does_not_matter(items, groups, seed, shuffle):
    rows, names = simulate(items, min(groups, items), seed)
    rows = [{key: value / 7 for key, value in row.items()} for row in rows]  # sums that round
    order = list(range(items))
    shuffle.shuffle(order)
    moved = [rows[k] for k in order], [names[k] for k in order]
    assert metric_intervals(f1_and_accuracy, *moved, resamples=50, seed=1) == metric_intervals(
        f1_and_accuracy, rows, names, resamples=50, seed=1
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 20), st.integers(0, 999))
def test_intervals_are_ordered_and_changes_are_antisymmetric(items, seed):
    base, groups = simulate(items, items, seed)
    adapted, _ = simulate(items, items, seed + 1000)
    forth, back = change(base, adapted, groups), change(adapted, base, groups)
    for name, interval in forth.items():
        assert interval.low <= interval.high
        assert back[name].value == -interval.value
        assert [back[name].low, back[name].high] == pytest.approx([-interval.high, -interval.low])


def test_no_change_is_exactly_nothing():
    rows, groups = simulate(25, 8, seed=2)
    assert set(change(rows, rows, groups).values()) == {Interval(0.0, 0.0, 0.0)}


def test_pairing_narrows_the_interval_of_a_change():
    """The same items right or wrong in both but a few: the paired interval is far below two unpaired ones."""
    rows, groups = simulate(200, 200, seed=3)
    better = [row | {"right": 1.0} if k < 10 else row for k, row in enumerate(rows)]
    paired = change(rows, better, groups)["accuracy"]
    alone = metric_intervals(f1_and_accuracy, rows, groups, **SETTINGS)["accuracy"]
    assert paired.low >= 0
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_whole_groups_are_resampled():
    """Ten copies of each item carry no more information than one: equal copies leave the interval as it was."""
    rows, groups = simulate(30, 30, seed=4)
    once = metric_intervals(f1_and_accuracy, rows, groups, **SETTINGS)
    copied = metric_intervals(f1_and_accuracy, rows * 10, groups * 10, **SETTINGS)
    for name in once:
        assert [copied[name].low, copied[name].high] == pytest.approx([once[name].low, once[name].high])


def test_coverage_of_the_true_accuracy():
    """200 simulated studies of 60 groups with shared group effects: about 95 % of intervals hold the truth (0.5)."""
    draw = np.random.default_rng(6)
    hits = 0
    for study in range(200):
        rates = np.repeat(draw.beta(2, 2, 60), 4)  # four items a group, mean rate 0.5
        rows = [{"tp": 0.0, "wrong": 0.0, "right": float(right)} for right in draw.random(240) < rates]
        groups = [str(k // 4) for k in range(240)]
        interval = metric_intervals(f1_and_accuracy, rows, groups, resamples=400, seed=study)["accuracy"]
        hits += interval.low <= 0.5 <= interval.high
    assert 0.89 <= hits / 200 <= 0.99


def test_one_group_has_no_interval():
    rows, _ = simulate(5, 1, seed=7)
    for got in (metric_intervals(f1_and_accuracy, rows, ["a"] * 5, **SETTINGS), change(rows, rows, ["a"] * 5)):
        assert all(interval.low is None and interval.high is None for interval in got.values())
    assert got["f1"].as_dict() == {"value": 0.0, "low": None, "high": None}


def test_other_items_are_refused():
    rows, groups = simulate(3, 3, seed=8)

    def pair(left, right, adapted=rows):
        paired_change(f1_and_accuracy, rows, adapted, base_hashes=left, adapted_hashes=right, groups=groups, **SETTINGS)

    with pytest.raises(PairingError, match=r"item 1 differs: base has b, adapted has x"):
        pair(["a", "b", "c"], ["a", "x", "y"])
    with pytest.raises(PairingError, match=r"item 2 \(c\) is only in base: 3 and 2 items"):
        pair(["a", "b", "c"], ["a", "b"], rows[:2])


def test_numbers_that_are_not_finite_are_refused():
    rows, groups = simulate(4, 4, seed=9)
    with pytest.raises(ValueError, match="metric accuracy is nan"):
        metric_intervals(f1_and_accuracy, [*rows[:3], rows[3] | {"right": float("nan")}], groups, **SETTINGS)
    with pytest.raises(ValueError, match="no items"):
        metric_intervals(f1_and_accuracy, [], [], **SETTINGS)
    with pytest.raises(ValueError, match="an item has the statistics"):
        metric_intervals(f1_and_accuracy, [*rows[:3], {"tp": 1.0}], groups, **SETTINGS)


def test_many_resamples_are_quick():
    rows, groups = simulate(2000, 500, seed=10)
    metric_intervals(f1_and_accuracy, rows, groups, resamples=2, seed=0)  # imports scipy
    started = time.perf_counter()
    metric_intervals(f1_and_accuracy, rows, groups, resamples=10_000, seed=0)
    assert time.perf_counter() - started < 10
