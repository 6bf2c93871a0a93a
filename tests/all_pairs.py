"""Few combinations of many choices in which every pair of values occurs."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

_CANDIDATES = 6
_Pair = frozenset[tuple[str, Any]]


def all_pairs(factors: Mapping[str, Sequence[Any]], *, seed: int = 0) -> list[dict[str, Any]]:
    """Combinations, one value of each factor, that hold every pair of values of two factors; the same for a seed.

    Greedy: each next one is the best of a few, every one of which is built value by value around a pair that is
    still missing (Cohen et al. 1997, "The AETG system").
    """
    draw = random.Random(seed)
    missing = {
        frozenset([(one, a), (other, b)]): None  # a dictionary, since a set would come in another order each time
        for one, other in combinations(factors, 2)
        for a in factors[one]
        for b in factors[other]
    }
    found = []
    while missing:
        first = list(missing)
        candidates = [_candidate(factors, draw.choice(first), missing, draw) for _ in range(_CANDIDATES)]
        best = max(candidates, key=lambda chosen: len(_pairs(chosen) & missing.keys()))
        for pair in _pairs(best):
            missing.pop(pair, None)
        found.append({name: best[name] for name in factors})
    return found


def _pairs(chosen: Mapping[str, Any]) -> set[_Pair]:
    return set(map(frozenset, combinations(chosen.items(), 2)))


def _candidate(
    factors: Mapping[str, Sequence[Any]], pair: _Pair, missing: Mapping[_Pair, None], draw: random.Random
) -> dict[str, Any]:
    chosen = dict(sorted(pair, key=lambda item: item[0]))
    rest = [name for name in factors if name not in chosen]
    draw.shuffle(rest)
    for name in rest:
        values = list(factors[name])
        draw.shuffle(values)
        gains = [sum(frozenset([(name, value), item]) in missing for item in chosen.items()) for value in values]
        chosen[name] = values[gains.index(max(gains))]
    return chosen
