"""Which gates stand behind a number, and their names in words."""

from __future__ import annotations

from collections.abc import Iterable

from adapter_exp.comparison.model import FailedGate, Group, Verdict
from adapter_exp.report.document import plain
from adapter_exp.report.texts import Texts


def gates_against(group: Group, configuration: str, *tasks: str, finding: Verdict = "higher") -> list[FailedGate]:
    """Failed gates that forbid to claim ``finding`` of the configuration on any of ``tasks``.

    A verdict alone does not tell: a gate that takes good news away leaves ``lower`` as it is.
    """
    return [
        gate
        for gate in group.gates
        if gate.configuration == configuration and gate.task in (None, *tasks) and finding in gate.withholds
    ]


def gate_name(name: str, t: Texts) -> str:
    """The gate in words; one of a later version by its own name."""
    return t.sentences.get(f"gate.{name}", plain(name))


def gate_names(gates: Iterable[FailedGate], t: Texts) -> str:
    """Each gate in words once, as a list."""
    return t.join(list(dict.fromkeys(gate_name(gate.name, t) for gate in gates)))
