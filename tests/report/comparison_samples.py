"""Comparisons made by hand, for what a report says; those of real records come from ``comparison.simulated``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapter_exp.comparison.model import (
    BalanceRow,
    Comparison,
    Configuration,
    CostRow,
    Estimate,
    Group,
    MetricComparison,
    MetricRow,
    PairRow,
    Run,
    TaskComparison,
    Verdict,
)

BASE = 0.2


def run(name: str, kind: str, seed: int, validation: float | None = None) -> Run:
    """A run whose record holds what a report reads of it."""
    scored = {} if validation is None else {"nerus": {"micro_f1": {"value": validation, "low": None, "high": None}}}
    record = {
        "run_id": f"{name}-{seed}",
        "status": "ok",
        "seed": seed,
        "config": {"adapter": {"kind": kind, "r": 8, "alpha": 16.0, "layers": "all", "dropout": 0.05}},
        "model": {"trainable_parameters": 1000},
        "training": {"loss": [{"step": step, "loss": 2.0 / step + seed / 10} for step in range(1, 50)]},
        "evaluation": {},
        "validation": {"adapted": scored} if scored else {},
        "gates": [],
        "resources": {},
    }
    return Run(Path("multirun") / name, record, {})


def configuration(
    name: str,
    *,
    axes: Mapping[str, Any] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    validation: float | None = None,
) -> Configuration:
    """``name`` begins with the kind."""
    kind = name.split()[0]
    return Configuration(name, kind, "nf4", axes or {}, tuple(run(name, kind, seed, validation) for seed in seeds))


def row(name: str, score: float, verdict: Verdict = "higher", *, sd: float = 0.01, base: float = BASE) -> MetricRow:
    """``score`` against ``base``, with an interval that fits the verdict."""
    change = score - base
    half = abs(change) / 2 if verdict in ("higher", "lower") else abs(change) + 0.05
    relative = Estimate(change / base, (change - half) / base, (change + half) / base) if base else None
    p = 0.001 if verdict in ("higher", "lower") else 0.4
    return MetricRow(
        name,
        Estimate(base, base - 0.05, base + 0.05),
        Estimate(score, score - 0.05, score + 0.05),
        Estimate(change, change - half, change + half),
        relative,
        p,
        p,
        "sign_flip",
        verdict,
        (score - sd, score, score + sd),
        sd,
        finding="tie" if verdict == "withheld" else verdict,
        items_needed=400,
    )


def metric(
    rows: Sequence[MetricRow],
    places: Sequence[Sequence[str]],
    *,
    name: str = "micro_f1",
    unranked: Sequence[str] = (),
    base: float = BASE,
) -> MetricComparison:
    """Pairs are ties within a place and differences between places."""
    place = {one: number for number, members in enumerate(places) for one in members}
    pairs = []
    for position, first in enumerate(rows):
        for second in rows[position + 1 :]:
            difference = first.adapted.value - second.adapted.value
            apart = place.get(first.configuration) != place.get(second.configuration)
            verdict: Verdict = ("higher" if difference > 0 else "lower") if apart else "tie"
            relative = Estimate(difference / second.adapted.value) if second.adapted.value else None
            pairs.append(
                PairRow(
                    first.configuration,
                    second.configuration,
                    Estimate(difference, difference - 0.02, difference + 0.02),
                    relative,
                    0.01,
                    0.04 if apart else 0.3,
                    "sign_flip",
                    verdict,
                    finding=verdict,
                    items_needed=777,
                )
            )
    return MetricComparison(
        name,
        {"nf4": Estimate(base, base - 0.05, base + 0.05)},
        0.1,
        tuple(rows),
        tuple(pairs),
        tuple(tuple(members) for members in places),
        0.0312,
        0.0421,
        tuple(unranked),
    )


def task(found: MetricComparison, *, name: str = "nerus", role: str = "special", items: int | None = 120):
    return TaskComparison(name, role, found.name, items, None if items is None else items // 2, (found,))


def group(configurations: Sequence[Configuration], tasks: Sequence[TaskComparison], **changes: Any) -> Group:
    """Axes vary where the configurations say so."""
    varying = tuple(dict.fromkeys(axis for one in configurations for axis in one.axes))
    made = Group(
        facts={"model": "tiny", "checkpoint_sha256": "9" * 64},
        varying=varying,
        configurations=tuple(configurations),
        tasks=tuple(tasks),
        balance=(),
        costs=tuple(
            CostRow(one.name, 1000 * n, 0.01 * n, 4000 * n, 60.0, 30.0 + n, 400.0, 2**30 + n * 10**8, None)
            for n, one in enumerate(configurations, 1)
        ),
        gates=(),
        warnings=(),
        tried=sum(len(one.runs) for one in configurations),
    )
    return replace(made, **changes)


def balance(name: str, published: Estimate | None, *, gain: float = 0.2, forgetting: float = -0.1) -> BalanceRow:
    around = [Estimate(value, value - 0.05, value + 0.05) for value in (gain, forgetting, gain + forgetting)]
    return BalanceRow(name, "nerus", "terra", around[0], around[1], published, around[2], 0.7)


def comparison(*groups: Group, **changes: Any) -> Comparison:
    return replace(Comparison(groups, (), (), 10_000, 0.95, 0.05), **changes)


def ranks(count: int = 4, *, verdict: Verdict = "higher") -> tuple[Group, Comparison]:
    """A sweep over r in which each step gains, every configuration in a place of its own."""
    names = [f"lora r={2 ** (n + 1)}" for n in range(count)]
    configurations = [configuration(name, axes={"adapter.r": 2 ** (n + 1)}) for n, name in enumerate(names)]
    rows = [row(name, 0.3 + 0.02 * n, verdict) for n, name in enumerate(names)]
    special = task(metric(rows, [[name] for name in reversed(names)]))
    general = task(
        metric([row(name, 0.2 - 0.01 * n, "tie") for n, name in enumerate(names)], [names], name="accuracy"),
        name="terra",
        role="general",
    )
    rows_of_balance = tuple(
        balance(name, Estimate(0.1 * n, 0.1 * n - 0.05, 0.1 * n + 0.05), gain=0.1 + 0.02 * n, forgetting=-0.01 * n)
        for n, name in enumerate(names)
    )
    made = group(configurations, [special, general], balance=rows_of_balance)
    return made, comparison(made)
