"""A ranking that does not claim more than the tests: who cannot be told from the leader shares the place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from adapter_exp.comparison.model import MetricRow, PairRow, Verdict


def places(
    rows: Sequence[MetricRow], pairs: Sequence[PairRow], taken: Mapping[str, frozenset[Verdict]]
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Places and the configurations without one.

    The best score leads the first place, which it shares with all that the corrected test over pairs cannot tell from
    it. The best of the others leads the second place, and so on.

    Args:
        taken: findings that gates withhold, by configuration: what may not be called better gets no place.
    """
    unranked = tuple(row.configuration for row in rows if row.test is None or "higher" in taken[row.configuration])
    waiting = [row for row in sorted(rows, key=lambda row: -row.adapted.value) if row.configuration not in unranked]
    apart = {frozenset((pair.first, pair.second)) for pair in pairs if pair.finding in ("higher", "lower")}
    found: list[tuple[str, ...]] = []
    while waiting:
        leader = waiting[0].configuration
        place = tuple(row.configuration for row in waiting if frozenset((leader, row.configuration)) not in apart)
        found.append(place)
        waiting = [row for row in waiting if row.configuration not in place]
    return tuple(found), unranked
