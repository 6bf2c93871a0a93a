"""Sections 1 and 2: what was compared, and the adapters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adapter_exp.comparison.model import Configuration, Group
from adapter_exp.report.document import Block, Bullets, Cell, Column, Facts, Paragraph, Section, Table, plain
from adapter_exp.report.numbers import DASH, compact, share, whole
from adapter_exp.report.texts import HASH_DIGITS, Texts

LIBRARIES = ("adapter_exp", "python", "torch", "transformers", "peft", "bitsandbytes")
SPLITS = ("train", "validation", "test")


def model_name(group: Group) -> str:
    """The base model's name."""
    return plain(group.facts.get("model") or DASH)


def compared(group: Group, t: Texts) -> Section:
    """Model, data, budget, seeds and versions, and differences that a reader has to know of."""
    blocks: list[Block] = [Facts(tuple(_facts(group, t)))]
    if group.facts.get("data"):
        blocks.append(_data(group, t))
    blocks += _budget(group, t)
    if group.warnings:
        blocks.append(Paragraph(t("setup.warnings"), tone="warn"))
        blocks.append(Bullets(tuple(t.reason(warning) for warning in group.warnings)))
    return Section(t("setup.title"), tuple(blocks))


def adapters(group: Group, t: Texts) -> Section:
    """One row per configuration, as in the published report: size, settings, share of the base, bytes."""
    costs = {row.configuration: row for row in group.costs}
    rows = []
    for one in group.configurations:
        settings = Settings(_adapter(one))
        cost = costs.get(one.name)
        values = [
            whole(cost.trainable_parameters) if cost else DASH,
            share(cost.share) if cost else DASH,
            *(settings.show(name) for name in ("r", "alpha", "hidden_dim", "layers", "target_modules", "dropout")),
            quantization_name(one.quantization, t),
            t.size(cost.saved_bytes) if cost else DASH,
        ]
        rows.append((Cell(plain(one.name), strong=True), *(Cell(value) for value in values)))
    keys = ("parameters", "share", "r", "alpha", "hidden", "layers", "modules", "dropout", "quantization", "bytes")
    left = ("layers", "modules", "quantization")
    columns = [Column(t(f"adapters.{key}"), "left" if key in left else "right") for key in keys]
    table = Table((Column(t("column.configuration"), "left", key=True), *columns), tuple(rows))
    return Section(t("adapters.title"), (table,) if rows else (Paragraph(t("adapters.none"), tone="warn"),))


class Settings:
    """The settings of an adapter, which may have parts of other kinds inside (``lora_mlp``)."""

    def __init__(self, adapter: Mapping[str, Any]) -> None:
        self._adapter = adapter

    def show(self, name: str) -> str:
        """The value, those of several parts with the part's name; a dash where there is none."""
        if self._adapter.get(name) is not None:
            return plain(compact(self._adapter[name]))
        parts = {part: values[name] for part, values in self._adapter.items() if _has(values, name)}
        if len(parts) == 1:
            return plain(compact(*parts.values()))
        return plain("; ".join(f"{part}: {compact(value)}" for part, value in parts.items())) or DASH


def quantization_name(quantization: str, t: Texts) -> str:
    """``nf4``, ``int8`` or the word for none."""
    return t("quantization.none") if quantization == "none" else plain(quantization)


def _has(values: Any, name: str) -> bool:
    return isinstance(values, Mapping) and values.get(name) is not None


def _adapter(configuration: Configuration) -> Mapping[str, Any]:
    found = configuration.runs[0].record["config"].get("adapter") if configuration.runs else None
    return found if isinstance(found, Mapping) else {}


def _facts(group: Group, t: Texts) -> Iterable[tuple[str, str]]:
    facts = group.facts
    source = [plain(facts[key])[:60] for key in ("source", "revision") if facts.get(key)]
    yield t("setup.model"), model_name(group) + (f" ({', '.join(source)})" if source else "")
    if facts.get("imported"):
        yield t("setup.imported"), plain(facts["imported"])
    if re.fullmatch("[0-9a-f]{64}", checkpoint := str(facts.get("checkpoint_sha256"))):  # imported figures have a name
        yield t("setup.checkpoint"), checkpoint[:HASH_DIGITS]
    kinds = [quantization_name(str(kind), t) for kind in facts.get("quantizations") or []]
    if kinds:
        yield t("setup.quantization"), ", ".join(kinds)
    yield t("setup.configurations"), whole(len(group.configurations))
    seeds = sorted({seed for one in group.configurations for seed in one.seeds})
    runs = sum(len(one.runs) for one in group.configurations)
    yield t("setup.runs"), t("setup.runs_seeds", runs=whole(runs), seeds=_listed(seeds))
    if group.base_runs:
        yield t("setup.base_runs"), whole(len(group.base_runs))
    if group.varying:
        yield t("setup.varying"), ", ".join(map(plain, group.varying))
    if rates := facts.get("learning_rates"):
        tried = [
            t("setup.rates_of_kind", kind=plain(kind), values=_listed(values), number=len(list(values)))
            for kind, values in rates.items()
        ]
        yield t("setup.learning_rates"), "; ".join(tried)
    for key in ("devices", "compute_dtypes"):
        if values := [value for value in facts.get(key) or [] if value is not None]:
            yield t(f"setup.{key}"), _listed(values)
    versions = facts.get("versions") or {}
    shown = [f"{name} {_listed(versions[name])}" for name in LIBRARIES if any(versions.get(name) or [])]
    if shown:
        yield t("setup.versions"), ", ".join(shown)
    if commits := [plain(commit)[:HASH_DIGITS] for commit in facts.get("commits") or [] if commit]:
        yield t("setup.commits"), ", ".join(commits)


def _listed(values: Any) -> str:
    several = values if isinstance(values, list | tuple | set | frozenset) else [values]
    return ", ".join(plain(compact(value)) for value in several if value is not None)


def _data(group: Group, t: Texts) -> Table:
    """One row per split in the order of their use; where runs differ in a split, one for each fingerprint."""
    rows: list[tuple[Cell, ...]] = []
    ends = []
    roles = {task.name: task.role for task in group.tasks}
    variants = group.facts.get("data_variants") or {}
    for task, splits in group.facts["data"].items():
        first = len(rows)
        for split in sorted(splits, key=lambda split: SPLITS.index(split) if split in SPLITS else len(SPLITS)):
            several = variants.get(task, {}).get(split) or [splits[split]]
            for position, found in enumerate(several):
                tokens = (found.get("tokens") or {}).get("total")
                values = [*(whole(found.get(key)) for key in ("items", "groups", "truncated")), whole(tokens)]
                role = t(f"role.{roles[task]}") if task in roles else ""
                leads = len(rows) == first
                name = t(f"split.{split}") if split in SPLITS else plain(split)
                rows.append(
                    (
                        Cell(plain(task) if leads else "", extra=role if leads else "", strong=True),
                        Cell("" if position else name),
                        *map(Cell, values),
                        Cell(plain(found.get("fingerprint") or DASH)[:HASH_DIGITS]),
                    )
                )
        ends.append(len(rows) - 1)
    keys = ("task", "split", "items", "documents", "truncated", "tokens", "fingerprint")
    columns = (
        Column(t("column.task"), "left", key=True),
        Column(t("column.split"), "left", key=True),
        *(Column(t(f"column.{key}"), "left" if key == "fingerprint" else "right") for key in keys[2:]),
    )
    return Table(columns, tuple(rows), t("setup.data"), ends=frozenset(ends))


def _budget(group: Group, t: Texts) -> list[Block]:
    """One line where all configurations had the same budget, else a table."""
    budgets: Sequence[Mapping[str, Any]] = group.facts.get("budgets") or []
    keys = ("examples", "epochs", "steps", "tokens", "learning_rate")
    told = [tuple(_amount(budget.get(key)) for key in keys) for budget in budgets]
    if not told or all(value == DASH for row in told for value in row):
        return []
    if len(set(told)) == 1:
        pairs = [(t(f"budget.{key}"), value) for key, value in zip(keys, told[0], strict=True) if value != DASH]
        return [Paragraph(t("budget.equal")), Facts(tuple(pairs))]
    rows = [
        (Cell(plain(budget.get("configuration")), strong=True), *map(Cell, row))
        for budget, row in zip(budgets, told, strict=True)
    ]
    columns = (Column(t("column.configuration"), "left", key=True), *(Column(t(f"budget.{key}")) for key in keys))
    return [Table(columns, tuple(rows), t("budget.title"))]


def _amount(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
        return whole(value)
    return plain(compact(value))
