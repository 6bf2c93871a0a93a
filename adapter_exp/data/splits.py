"""Which split a document falls in: decided by a hash of its name, so that it never moves."""

from __future__ import annotations

import hashlib
from typing import Final

from adapter_exp.tasks.protocol import Split

# Share of documents in hundredths, in this order.
SHARES: Final[tuple[tuple[Split, int], ...]] = (("train", 80), ("validation", 10), ("test", 10))


def seeded_hash(seed: int, text: str) -> int:
    """A 64-bit number drawn by ``seed`` for ``text``, the same on every machine."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=seed.to_bytes(16, "little", signed=True))
    return int.from_bytes(digest.digest(), "little")


def split_of(document: str, *, seed: int) -> Split:
    """The split of ``document``: 80 % train, 10 % validation, 10 % test.

    It depends on nothing but the name and the seed: adding documents or drawing fewer items moves none.
    """
    # Its own prefix: the draw within a split hashes with the same seed and must not depend on the split.
    place = seeded_hash(seed, f"split\0{document}") % 100
    for split, share in SHARES:
        if place < share:
            return split
        place -= share
    raise AssertionError("the shares do not add up to 100")


def in_held_out_share(name: str, *, seed: int, percent: int) -> bool:
    """Whether ``name`` falls in the ``percent`` hundredths that are cut from a training file for validation."""
    return seeded_hash(seed, f"held-out\0{name}") % 100 < percent
