"""Section 7: results that gates refuse, and runs that take no part."""

from __future__ import annotations

from collections.abc import Sequence

from adapter_exp.comparison.model import Comparison, FailedGate, Group, Refused
from adapter_exp.report.document import Block, Cell, Column, Paragraph, Section, Table, plain
from adapter_exp.report.numbers import DASH
from adapter_exp.report.texts import Texts
from adapter_exp.report.withheld import gate_name


def gates(comparison: Comparison | None, group: Group, t: Texts) -> Section:
    """Failed gates of the group; with ``comparison``, the refused runs too."""
    blocks: list[Block] = []
    withholding = [gate for gate in group.gates if gate.withholds]
    warning = [gate for gate in group.gates if not gate.withholds]
    if withholding:
        blocks += [Paragraph(t("gates.withheld"), tone="warn"), _gates(withholding, group, t)]
    else:
        blocks.append(Paragraph(t("gates.none")))
    if warning:
        blocks += [Paragraph(t("gates.warnings")), _gates(warning, group, t)]
    if comparison is not None:
        blocks += refused(comparison, t)
    return Section(t("gates.title"), tuple(blocks))


def refused(comparison: Comparison, t: Texts) -> tuple[Block, ...]:
    """Every folder that took no part, with its reason."""
    if not comparison.refused:
        return (Paragraph(t("gates.no_refused")),)
    rows = tuple((Cell(plain(one.folder)), Cell(t.reason(one.reason))) for one in _in_order(comparison.refused))
    columns = (Column(t("column.folder"), "left", key=True), Column(t("column.reason"), "left", key=True))
    return (Table(columns, rows, t("gates.refused", number=len(rows))),)


def _in_order(refused: Sequence[Refused]) -> list[Refused]:
    return sorted(refused, key=lambda one: (str(one.folder.parent), len(one.folder.name), one.folder.name))


def _gates(failed: Sequence[FailedGate], group: Group, t: Texts) -> Table:
    """One row for the seeds of a configuration, and for configurations with the same findings."""
    owners: dict[tuple[str, str, str, str], list[FailedGate]] = {}
    for gate in failed:
        owners.setdefault((gate.name, gate.task or "", gate.model or "", gate.configuration), []).append(gate)
    alike: dict[tuple[object, ...], list[list[FailedGate]]] = {}
    for (*about, _), gates_of_one in owners.items():
        found = frozenset(t.reason(gate.reason) for gate in gates_of_one)
        alike.setdefault((*about, found), []).append(gates_of_one)
    shown = [
        (
            Cell(gate_name(members[0][0].name, t), strong=True),
            Cell(plain(members[0][0].task or DASH)),
            Cell(_who([gate for one in members for gate in one], group, t)),
            Cell(_told(members[0], t)),
            Cell(_withholds(members[0][0], t)),
        )
        for members in alike.values()
    ]
    keys = ("gate", "task", "configuration", "reason", "withholds")
    return Table(tuple(Column(t(f"column.{key}"), "left", key=True) for key in keys), tuple(shown))


def _told(seeds: Sequence[FailedGate], t: Texts) -> str:
    """The first seed's finding, and how many seeds failed with other numbers."""
    first, *others = [t.reason(gate.reason) for gate in seeds]
    more = sum(other != first for other in others)
    return t("gates.likewise", reason=first, number=more) if more else first


def _who(members: Sequence[FailedGate], group: Group, t: Texts) -> str:
    if all(gate.model == "base" for gate in members):
        return t("row.base")
    names = list(dict.fromkeys(gate.configuration for gate in members))
    if len(names) > 1 and len(names) == len(group.configurations):
        return t("gates.all")
    told = []
    for name in names:
        seeds = [gate.seed for gate in members if gate.configuration == name and gate.seed is not None]
        known = next((one.seeds for one in group.configurations if one.name == name), ())
        every = set(seeds) == set(known) or not seeds
        told.append(name if every else t("gates.seeds", name=plain(name), seeds=", ".join(map(str, seeds))))
    return t.join(told)


def _withholds(gate: FailedGate, t: Texts) -> str:
    if not gate.withholds:
        return t("withholds.nothing")
    return t("withholds.all" if "lower" in gate.withholds else "withholds.good")
