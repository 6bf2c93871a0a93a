"""Section 8: what the numbers allow to say, and what they do not; never stronger than the tests behind it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

from adapter_exp.comparison.model import (
    BalanceRow,
    Comparison,
    Configuration,
    Estimate,
    Group,
    MetricComparison,
    MetricRow,
    TaskComparison,
    Verdict,
)
from adapter_exp.report.comparison_tasks import change_text
from adapter_exp.report.document import Block, Bullets, Paragraph, Section, plain
from adapter_exp.report.next_steps import next_steps
from adapter_exp.report.numbers import change, exists, interval, percent, score
from adapter_exp.report.texts import Texts
from adapter_exp.report.withheld import gate_names, gates_against

TOLD: tuple[Verdict, ...] = ("higher", "lower", "tie", "withheld", "not_measured")


def conclusions(comparison: Comparison, group: Group, t: Texts) -> Section:
    """Sentences on each task, on the balance and on selection; then the experiments to run next."""
    if not group.configurations:
        return Section(t("conclusions.title"), (Paragraph(t("conclusions.base_only")),))
    said = [
        _tried(group, t),
        *(sentence for task in group.tasks for sentence in _task(group, task, t)),
        *_same_as_base(group, t),
        *_balance(group, t),
        *_validation(group, t),
    ]
    parts: list[Section] = [Section(t("conclusions.said"), (Bullets(tuple(said)),))]
    steps: Block = Bullets(tuple(next_steps(comparison, group, t)) or (t("next.none"),))
    parts.append(Section(t("conclusions.next"), (steps,)))
    return Section(t("conclusions.title"), (), tuple(parts))


def _tried(group: Group, t: Texts) -> str:
    number = len(group.configurations)
    counts = {"configurations": t.count("configuration", number), "runs": t.count("run", group.tried)}
    return t("said.alone" if number == 1 else "said.tried", **counts)


def _task(group: Group, task: TaskComparison, t: Texts) -> Iterable[str]:
    if not task.metrics:
        return
    metric = task.metrics[0]
    if metric.rows:
        yield _against_base(task, metric, t)
    if task.role == "general":
        yield from _kept(task, metric, t)
    if len(metric.rows) > 1:
        yield from _best(group, task, metric, t)


def _against_base(task: TaskComparison, metric: MetricComparison, t: Texts) -> str:
    parts = []
    for verdict in TOLD:
        rows = [row for row in metric.rows if row.verdict == verdict]
        if rows:
            rows = sorted(rows, key=lambda row: -row.adapted.value)
            names = [_with_change(row) for row in rows]
            key = "said.part_tie" if verdict == "tie" else "said.part"
            parts.append(t(key, finding=t(f"verdict.{verdict}"), names=t.join(names)))
    return t("said.against_base", task=plain(task.name), metric=plain(metric.name), parts="; ".join(parts))


def _with_change(row: MetricRow) -> str:
    return f"{plain(row.configuration)} ({change(row.change.value)})" if row.change else plain(row.configuration)


def _kept(task: TaskComparison, metric: MetricComparison, t: Texts) -> Iterable[str]:
    """An absence of evidence on the general task is told as what it is."""
    ties = [row for row in metric.rows if row.verdict == "tie"]
    if ties and metric.smallest_difference is not None:
        yield t("said.no_loss_shown", task=plain(task.name), smallest=score(metric.smallest_difference))


def _best(group: Group, task: TaskComparison, metric: MetricComparison, t: Texts) -> Iterable[str]:
    role = t(f"said.role_{task.role}", task=plain(task.name))
    rows = {row.configuration: row for row in metric.rows}
    if metric.places:
        yield _first_place(role, metric, rows, t)
    elif all(row.verdict == "not_measured" for row in metric.rows):
        highest = max(metric.rows, key=lambda row: row.adapted.value)
        names = [row.configuration for row in metric.rows if row.adapted.value == highest.adapted.value]
        values = {"names": t.join(names), "metric": plain(metric.name), "score": score(highest.adapted.value)}
        yield t("said.untested", role=role, change=change_text(highest), **values)
    else:
        yield t("said.withheld", role=role)
    yield from _without_place(group, task, metric, t, role)


def _without_place(group: Group, task: TaskComparison, metric: MetricComparison, t: Texts, role: str) -> Iterable[str]:
    """Every configuration without a place is named: those of which gates forbid to claim the best, and the untested."""
    by_gates: dict[str, list[str]] = {}
    untested = []
    for name in metric.unranked:
        if gates := gates_against(group, name, task.name):
            by_gates.setdefault(gate_names(gates, t), []).append(name)
        else:
            untested.append(name)
    for gates_told, names in by_gates.items():
        yield t("said.left_out", role=role, names=t.join(names), gates=gates_told)
    if untested and any(row.verdict != "not_measured" for row in metric.rows):
        yield t("said.left_out_untested", role=role, names=t.join(untested))


def _first_place(role: str, metric: MetricComparison, rows: dict[str, MetricRow], t: Texts) -> str:
    members = [name for name in metric.places[0] if name in rows]
    leader = rows[members[0]]
    values = {"role": role, "metric": plain(metric.name), "score": score(leader.adapted.value)}
    above = [name for name in members if rows[name].verdict == "higher"]
    if len(members) == 1:
        key = "said.best" if above else "said.best_not_base"
        if len(metric.places) == 1:  # nothing else is ranked, so there is nothing that it was compared with
            key = "said.only_ranked" if above else "said.only_ranked_not_base"
        return t(key, name=plain(leader.configuration), change=change_text(leader), **values)
    smallest = metric.smallest_pair_difference
    unseen = t("said.unseen", smallest=score(smallest)) if smallest is not None else ""
    tied = t("said.tied", name=plain(leader.configuration), names=t.join(members), **values)
    base = "" if above else t("said.none_above_base")
    return " ".join(part for part in (tied, unseen, base) if part)


def _same_as_base(group: Group, t: Texts) -> Iterable[str]:
    """Configurations with the base's own number on every metric: the plainest tie of all."""
    names: dict[tuple[int, str], list[str]] = {}
    for one in group.configurations:
        rows = [
            row
            for task in group.tasks
            for metric in task.metrics
            for row in metric.rows
            if row.configuration == one.name
        ]
        if rows and all(row.change is not None and row.change.value == 0 for row in rows):
            tasks = [task.name for task in group.tasks]
            names.setdefault(
                (len(rows), gate_names(gates_against(group, one.name, *tasks, finding="tie"), t)), []
            ).append(one.name)
    for (number, gates), same in names.items():
        told = t("said.same_as_base", name=t.join(same), numbers=t.count("number", number))
        yield f"{told} {t('said.tie_withheld', gates=gates)}" if gates else told


def _balance(group: Group, t: Texts) -> Iterable[str]:
    for special, general in dict.fromkeys((row.special, row.general) for row in group.balance):
        rows = [row for row in group.balance if (row.special, row.general) == (special, general)]
        published = [(row, row.published) for row in rows if row.published and exists(row.published.value)]
        if published:
            yield _best_balance(group, published, t, published=True)
        absolute = [(row, row.absolute) for row in rows if row.absolute and exists(row.absolute.value)]
        if absolute and not published:
            yield _best_balance(group, absolute, t, published=False)


def _best_balance(group: Group, rows: Sequence[tuple[BalanceRow, Estimate]], t: Texts, *, published: bool) -> str:
    """The highest balance, and those of which it is not shown that they are below it."""
    best, top = max(rows, key=lambda found: found[1].value)
    shown = percent if published else change
    ends = interval(top, signed=True, relative=published)
    leaders = [row.configuration for row, one in rows if one.value == top.value]
    values = {
        "special": plain(best.special),
        "general": plain(best.general),
        "names": t.join(leaders),
        "score": f"{shown(top.value)} {ends}".rstrip(),
    }
    said = [t("said.balance" if published else "said.balance_absolute", **values)]
    if top.low is None or top.high is None:
        said.append(t("said.balance_untested"))
    else:
        others = [(row, row.published_behind if published else row.absolute_behind) for row, _ in rows]
        near = [
            row.configuration
            for row, behind in others
            if row.configuration not in leaders and (behind is None or behind.high is None or behind.high >= 0)
        ]
        if near:
            said.append(t("said.balance_near", names=t.join(near)))
        if top.low <= 0 <= top.high:
            said.append(t("said.balance_zero"))
    return " ".join([*said, *_number_only(group, leaders, (best.special, best.general), t)])


def _number_only(group: Group, names: Sequence[str], tasks: Sequence[str], t: Texts) -> Iterable[str]:
    """Says so where gates forbid to call what these configurations reached on ``tasks`` good news."""
    found = [task for task in tasks if any(gates_against(group, name, task) for name in names)]
    if found:
        gates = [gate for name in names for gate in gates_against(group, name, *found)]
        yield t("said.number_only", tasks=t.join(found), gates=gate_names(gates, t))


def _validation(group: Group, t: Texts) -> Iterable[str]:
    """Which configuration validation picks, and what it scored on test: the number without the bias of a choice."""
    for task in group.tasks:
        if task.role != "special" or not task.metrics or len(group.configurations) < 2:
            continue
        metric = task.metrics[0]
        scores = {one.name: _validation_score(one, task.name, metric.name) for one in group.configurations}
        known = {name: value for name, value in scores.items() if value is not None}
        if len(known) < len(scores):
            yield t("said.no_validation", task=plain(task.name))
            continue
        best = max(known.values())
        picked = [name for name, value in known.items() if value == best]
        tests = {row.configuration: score(row.adapted.value) for row in metric.rows if row.configuration in picked}
        values = {"task": plain(task.name), "metric": plain(metric.name), "validation": score(best)}
        said = [t("said.validation", names=t.join(picked), **values)]
        if tests:
            said.append(t("said.validation_test", test=t.join([tests[name] for name in picked if name in tests])))
        if absent := [name for name in picked if name not in tests]:
            said.append(t("said.validation_untested", names=t.join(absent)))
        yield " ".join([*said, *_number_only(group, picked, (task.name,), t)])


def _validation_score(configuration: Configuration, task: str, metric: str) -> float | None:
    values = []
    for run in configuration.runs:
        found = run.record["validation"].get("adapted", {}).get(task, {}).get(metric)
        if found is None or not exists(found["value"]):
            return None
        values.append(float(found["value"]))
    return fmean(values) if values else None
