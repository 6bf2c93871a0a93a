"""Failed gates of all runs, and what they take away from the findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapter_exp.comparison.arithmetic import arithmetic_gates
from adapter_exp.comparison.model import Configuration, FailedGate, Reason, Run, Verdict
from adapter_exp.evaluation.gates import withheld_by

_MIRROR: Mapping[Verdict, Verdict] = {"higher": "lower", "lower": "higher"}
_OF_LOSS = ("loss_exploding", "loss_not_falling")
EVERYTHING: frozenset[Verdict] = frozenset({"higher", "lower", "tie"})


def failed_gates(configurations: Sequence[Configuration], runs: Sequence[Run]) -> tuple[FailedGate, ...]:
    """Every failed gate of every run; figures from elsewhere also pass the gates of arithmetic.

    Args:
        runs: all runs of the group; those of no configuration (``adapter=none``) stand under ``none``.
    """
    owners = {id(run): one.name for one in configurations for run in one.runs}
    found = []
    for run in runs:
        gates: list[Mapping[str, Any]] = [*run.record["gates"], *(arithmetic_gates(run.record) if run.imported else ())]
        found += [_failed(owners.get(id(run), "none"), run, gate) for gate in gates if not gate["passed"]]
    return tuple(found)


def _failed(configuration: str, run: Run, gate: Mapping[str, Any]) -> FailedGate:
    values = gate.get("values") or {}
    # Gates on the loss curve fail in two ways: by its direction, or by one loss that is no number.
    code = "loss_not_finite" if gate["name"] in _OF_LOSS and "number" in values else str(gate["name"])
    return FailedGate(
        configuration,
        int(run.record["seed"]),
        gate.get("task"),
        gate.get("model"),
        str(gate["name"]),
        # Records of earlier versions tell the numbers in English only.
        Reason(code, {**values, "text": str(gate["reason"])}),
        frozenset(withheld_by(gate)),
    )


def withheld(gates: Sequence[FailedGate], configuration: str, task: str) -> frozenset[Verdict]:
    """Findings on ``task`` that no run of ``configuration`` may claim; one run's failure counts for all its seeds."""
    own = [gate for gate in gates if gate.configuration == configuration and gate.task in (None, task)]
    return frozenset[Verdict]().union(*(gate.withholds for gate in own))


def verdict(finding: Verdict, taken: frozenset[Verdict]) -> Verdict:
    """``finding`` after the gates. Figures without a test are refused only where nothing at all may be said."""
    refused = taken >= EVERYTHING if finding == "not_measured" else finding in taken
    return "withheld" if refused else finding


def pair_verdict(finding: Verdict, first: frozenset[Verdict], second: frozenset[Verdict]) -> Verdict:
    """The same for a pair: what is found of the first is found of the second the other way round."""
    mirrored = verdict(_MIRROR.get(finding, finding), second)
    return "withheld" if mirrored == "withheld" else verdict(finding, first)
