"""Splits by hash and draws from a stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_exp.data.sampling import Draw
from adapter_exp.data.splits import seeded_hash, split_of


def draw(keys, size, seed=0) -> Draw[str]:
    found = Draw[str](size, seed=seed)
    for key in keys:
        if found.wants(key):
            found.add(key, key)
    return found


@given(st.lists(st.text(), max_size=30), st.integers(1, 40), st.randoms())
def test_draw_is_of_distinct_keys_and_ignores_their_order(keys, size, rng):
    found = draw(keys, size).items()
    assert len(found) == len(set(found)) == min(size, len(set(keys)))
    assert set(found) <= set(keys)
    assert draw(rng.sample(keys, len(keys)), size).items() == found
    assert draw(keys, None).items()[:size] == found


@given(st.lists(st.text(), max_size=30))
def test_duplicates_are_counted(keys):
    assert draw(keys, None).duplicates == len(keys) - len(set(keys))


def test_draw_is_uniform():
    """Each of 20 keys is drawn by about 5 of 20 in 2000 draws; 0.06 is six standard deviations."""
    keys = [str(i) for i in range(20)]
    counts = dict.fromkeys(keys, 0)
    for seed in range(2000):
        for key in draw(keys, 5, seed).items():
            counts[key] += 1
    assert all(abs(count / 2000 - 0.25) < 0.06 for count in counts.values())


def test_split_shares():
    places = [split_of(str(i), seed=0) for i in range(20_000)]
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert places.count(split) / 20_000 == pytest.approx(share, abs=0.015)


def test_splits_and_hashes_stay_what_they_are():
    """Golden: another hash would move every document of every user."""
    assert seeded_hash(0, "a") == 9895932154296373287
    outside_train = {i: split for i in range(20) if (split := split_of(str(i), seed=0)) != "train"}
    assert outside_train == {0: "validation"}


@pytest.mark.parametrize("seed", [0, -1, 2**63])
def test_any_seed_hashes(seed):
    assert 0 <= seeded_hash(seed, "Тула") < 2**64
