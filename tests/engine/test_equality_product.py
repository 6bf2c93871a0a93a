"""Every subset of the savings with every adapter and placement, on every architecture."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from equality_models import ARCHITECTURES, KINDS, PLACEMENTS
from equality_samples import SWITCHES, Prover, Setting, faults, way_of

ADAPTERS = [kind for kind in KINDS if kind != "full"]
WITH_FROZEN_LAYERS = ("last:2", (1, 3))
# Batch, accumulation, quantisation and chat template take turns.
TURNS = [
    (4, 1, "none", True),
    (1, 4, "nf4", True),
    (4, 1, "nf4", False),
    (1, 4, "none", False),
    (1, 1, "nf4", True),
    (4, 4, "none", True),
    (4, 1, "nf4", True),
]


def settings() -> Iterator[Setting]:
    """Adapters with frozen layers on all architectures, the other placements of each on one."""
    for number, kind in enumerate(ADAPTERS):
        for place, layers in enumerate(PLACEMENTS):
            for turn, architecture in enumerate(ARCHITECTURES):
                if layers == "last:2" or (number + place) % len(ARCHITECTURES) == turn:
                    yield Setting(architecture, kind, layers, *TURNS[(number + 2 * place + 3 * turn) % len(TURNS)])


def subsets(setting: Setting) -> Iterator[tuple[str, ...]]:
    """All that differ in what is computed.

    A shared prefix and frozen states need packing, without frozen layers there are no frozen states, and
    whole weights are kept in one way.
    """
    layouts: list[tuple[str, ...]] = [(), ("packing",), ("shared_prefix",)]
    if setting.layers in WITH_FROZEN_LAYERS:
        layouts += [("frozen_cache",), ("frozen_cache", "shared_prefix")]
    others = [name for name in SWITCHES if name not in ("packing", "shared_prefix", "frozen_cache")]
    if setting.quantization == "none":
        others.remove("keep")
    for size in range(len(others) + 1):
        for chosen in combinations(others, size):
            yield from (layout + chosen for layout in layouts)


def name_of(setting: Setting) -> str:
    return "-".join(map(str, setting)).replace(" ", "")


@pytest.mark.slow
@pytest.mark.parametrize("setting", settings(), ids=name_of)
def test_every_subset(prover: Prover, setting: Setting) -> None:
    plain = prover.plain(setting)
    found: dict[Any, list[str]] = {
        subset: faults(prover.step(setting, way_of(subset)), plain) for subset in subsets(setting) if subset
    }
    assert not any(found.values()), {subset: lines for subset, lines in found.items() if lines}
