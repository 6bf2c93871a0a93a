"""Compare runs: groups that can be compared, tests with their correction, gates, costs."""

from __future__ import annotations

from collections.abc import Sequence

from adapter_exp.comparison.balance import balance_rows
from adapter_exp.comparison.configurations import configurations
from adapter_exp.comparison.costs import cost_rows
from adapter_exp.comparison.facts import group_facts, warnings
from adapter_exp.comparison.gates import failed_gates
from adapter_exp.comparison.groups import comparable_groups
from adapter_exp.comparison.model import Comparison, Group, Refused, Run
from adapter_exp.comparison.scores import scored_tasks
from adapter_exp.comparison.task_comparison import Settings, compare_task
from adapter_exp.errors import UserError


def compare_runs(
    runs: Sequence[Run],
    refused: Sequence[Refused] = (),
    *,
    resamples: int = 10_000,
    alpha: float = 0.05,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare ``runs`` with each other and with their bases.

    Args:
        runs, refused: of ``runs.read_runs``.
        resamples: bootstrap draws and permutations.
        alpha: share of false differences allowed over all configurations on a metric.
        confidence: of the intervals.
        seed: of draws and permutations; equal runs and seed give an equal comparison.

    Raises:
        UserError: without runs.
    """
    if not runs:
        raise UserError("there is no run to compare.")
    settings = Settings(resamples, alpha, confidence, seed)
    parts, split = comparable_groups(runs)
    groups: list[Group] = []
    left_out = list(refused)
    for part in parts:
        group, again = _group(part, settings)
        groups.append(group)
        left_out += again
    return Comparison(tuple(groups), tuple(left_out), tuple(split), resamples, confidence, alpha)


def _group(runs: Sequence[Run], settings: Settings) -> tuple[Group, list[Refused]]:
    found, varying, again = configurations(runs)
    refused = {one.folder for one in again}
    counted = [run for run in runs if run.folder not in refused]
    gates = failed_gates(found, counted)
    evidence = [compare_task(task, counted, found, gates, settings) for task in _tasks(counted)]
    facts = group_facts(counted, found)
    owned = {id(run) for one in found for run in one.runs}
    group = Group(
        facts=facts,
        varying=varying,
        configurations=tuple(found),
        tasks=tuple(one.task for one in evidence),
        balance=balance_rows(found, evidence, confidence=settings.confidence),
        costs=cost_rows(found),
        gates=gates,
        warnings=warnings(facts, found, counted, evidence, settings),
        tried=len(owned),
        base_runs=tuple(run for run in counted if id(run) not in owned),
    )
    return group, again


def _tasks(runs: Sequence[Run]) -> list[str]:
    """Scored tasks, the special ones first."""
    roles = {
        task: run.record["tasks"].get(task, {}).get("role", "special") for run in runs for task in scored_tasks(run)
    }
    return sorted(roles, key=lambda task: roles[task] != "special")
