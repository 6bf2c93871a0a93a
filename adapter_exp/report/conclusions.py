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

TOLD: tuple[Verdict, ...] = ("higher", "lower", "tie", "withheld", "not_measured")


def conclusions(comparison: Comparison, group: Group, t: Texts) -> Section:
    """Sentences on each task, on the balance and on selection; then the experiments to run next."""
    if not group.configurations:
        return Section(t("conclusions.title"), (Paragraph(t("conclusions.base_only")),))
    said = [
        _tried(group, t),
        *(sentence for task in group.tasks for sentence in _task(task, t)),
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


def _task(task: TaskComparison, t: Texts) -> Iterable[str]:
    if not task.metrics:
        return
    metric = task.metrics[0]
    if metric.rows:
        yield _against_base(task, metric, t)
    if task.role == "general":
        yield from _kept(task, metric, t)
    if len(metric.rows) > 1:
        yield from _best(task, metric, t)


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


def _best(task: TaskComparison, metric: MetricComparison, t: Texts) -> Iterable[str]:
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
        yield t("said.withheld", role=role, names=t.join([row.configuration for row in metric.rows]))
        return
    withheld = [name for name in metric.unranked if name in rows and rows[name].verdict == "withheld"]
    if withheld and metric.places:
        yield t("said.left_out", role=role, names=t.join(withheld))


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
    names: dict[int, list[str]] = {}
    for one in group.configurations:
        changes = [
            row.change
            for task in group.tasks
            for metric in task.metrics
            for row in metric.rows
            if row.configuration == one.name
        ]
        if changes and all(found is not None and found.value == 0 for found in changes):
            names.setdefault(len(changes), []).append(one.name)
    for number, same in names.items():
        yield t("said.same_as_base", name=t.join(same), numbers=t.count("number", number))


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
    """The highest balance; others whose interval reaches its interval are named, for no test tells them apart."""
    best, top = max(rows, key=lambda found: found[1].value)
    shown = percent if published else change
    ends = interval(top, signed=True, relative=published)
    values = {
        "special": plain(best.special),
        "general": plain(best.general),
        "names": t.join([row.configuration for row, one in rows if one.value == top.value]),
        "score": f"{shown(top.value)} {ends}".rstrip(),
    }
    said = [t("said.balance" if published else "said.balance_absolute", **values)]
    if top.low is None or top.high is None:
        said.append(t("said.balance_untested"))
    else:
        near = [
            row.configuration
            for row, one in rows
            if one.value < top.value and (one.high is None or one.high >= top.low)
        ]
        if near:
            said.append(t("said.balance_near", names=t.join(near)))
        if top.low <= 0 <= top.high:
            said.append(t("said.balance_zero"))
    tasks = [task for task in (best.special, best.general) if _withheld(group, best.configuration, task)]
    if tasks:
        said.append(t("said.balance_withheld", tasks=t.join(tasks)))
    return " ".join(said)


def _withheld(group: Group, configuration: str, task: str) -> bool:
    return any(
        row.verdict == "withheld"
        for one in group.tasks
        if one.name == task
        for metric in one.metrics[:1]
        for row in metric.rows
        if row.configuration == configuration
    )


def _validation(group: Group, t: Texts) -> Iterable[str]:
    """Which configuration validation picks, and what it scored on test: the unflattered number."""
    for task in group.tasks:
        if task.role != "special" or not task.metrics or len(group.configurations) < 2:
            continue
        metric = task.metrics[0]
        scores = {one.name: _validation_score(one, task.name, metric.name) for one in group.configurations}
        known = {name: value for name, value in scores.items() if value is not None}
        rows = {row.configuration: row for row in metric.rows}
        if len(known) < len(scores) or not known.keys() <= rows.keys():
            yield t("said.no_validation", task=plain(task.name))
            continue
        best = max(known.values())
        picked = [name for name, value in known.items() if value == best]
        values = {"task": plain(task.name), "metric": plain(metric.name), "validation": score(best)}
        tests = [score(rows[name].adapted.value) for name in picked]
        yield t("said.validation", names=t.join(picked), test=t.join(tests), **values)


def _validation_score(configuration: Configuration, task: str, metric: str) -> float | None:
    values = []
    for run in configuration.runs:
        found = run.record["validation"].get("adapted", {}).get(task, {}).get(metric)
        if found is None or not exists(found["value"]):
            return None
        values.append(float(found["value"]))
    return fmean(values) if values else None
