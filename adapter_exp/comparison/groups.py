"""Which runs can be compared at all: the same base checkpoint, the same items, asked in the same way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adapter_exp.comparison.model import Reason, Run, reason
from adapter_exp.comparison.scores import ADAPTED, BASE, scored_tasks
from adapter_exp.comparison.tasks import task_settings

_DATA_KEYS = frozenset({"path", "max_train", "max_validation", "max_eval", "split_seed", "min_chars", "max_chars"})
"""Settings that choose items and change nothing else: the items themselves are compared, by their hashes."""

_SHOWN = 12  # digits of a hash in a reason


@dataclass(frozen=True)
class TaskFacts:
    """What two runs must share on a task to be compared on it.

    Attributes:
        items: hash of each item and of its prompt, sorted by the first; None for figures without predictions.
        documents: which items belong together, hashed; None likewise.
        settings: all of the task's settings that do not choose items.
    """

    role: str
    items: tuple[tuple[str, str], ...] | None
    documents: str | None
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class RunGroup:
    """Comparable runs, and what they share."""

    checkpoint: str
    imported: str | None
    tasks: Mapping[str, TaskFacts]
    runs: tuple[Run, ...]


def comparable_groups(runs: Sequence[Run]) -> tuple[list[list[Run]], list[Reason]]:
    """Split ``runs`` into groups that can be compared; which ones does not depend on the order of the runs.

    Two groups are one when they have the same base checkpoint and agree on every task that both were scored on, of
    which there must be one. A run that was scored on several tasks so joins runs that were scored on one of them each.
    A run that fits two groups which contradict each other joins the one whose core of alike runs has more tasks, then
    more runs. Quantisation, precision and device do not split.

    Returns:
        the groups, in the order of their first runs, and for each group after the first how it differs from the first:
        ``other_checkpoint``, ``other_source`` (imported figures), ``other_tasks``, ``other_role``, ``other_items``,
        ``other_documents``, ``other_prompts``, ``other_settings``.
    """
    alike: dict[str, RunGroup] = {}
    for one in map(_alone, runs):
        key = _key(one)
        alike[key] = replace(one, runs=(alike[key].runs if key in alike else ()) + one.runs)
    groups: list[RunGroup] = []
    for key in sorted(alike, key=lambda key: (-len(alike[key].tasks), -len(alike[key].runs), key)):
        joined = alike[key]
        position = len(groups)
        # What was joined may itself be the link between groups that had no task in common.
        while (home := next((group for group in groups if _difference(group, joined) is None), None)) is not None:
            position = groups.index(home)
            groups.remove(home)
            joined = replace(joined, tasks={**joined.tasks, **home.tasks}, runs=home.runs + joined.runs)
        groups.insert(position, joined)
    place = {id(run): number for number, run in enumerate(runs)}
    ordered = [replace(one, runs=tuple(sorted(one.runs, key=lambda run: place[id(run)]))) for one in groups]
    ordered.sort(key=lambda one: place[id(one.runs[0])])
    reasons = (_difference(ordered[0], other) for other in ordered[1:])
    return [list(group.runs) for group in ordered], [reason for reason in reasons if reason is not None]


def checkpoint_of(run: Run) -> str:
    """Identity of the base: its checkpoint's hash, or its name where figures are imported."""
    model = run.record["model"]
    return str(model.get("checkpoint_sha256") or model.get("name") or "unknown")


def _alone(run: Run) -> RunGroup:
    imported = str((run.record.get("imported") or {}).get("source", "")) if run.imported else None
    tasks = {task: _task_facts(run, task) for task in sorted(scored_tasks(run))}
    return RunGroup(checkpoint_of(run), imported, tasks, (run,))


def _key(one: RunGroup) -> str:
    """Equal for runs that share all facts, and nothing to do with where they lie."""
    facts = {task: vars(found) for task, found in one.tasks.items()}
    return json.dumps([one.checkpoint, one.imported, facts], sort_keys=True)


def _task_facts(run: Run, task: str) -> TaskFacts:
    role = str(run.record["tasks"].get(task, {}).get("role", "special"))
    settings = {key: value for key, value in task_settings(run.record, task).items() if key not in _DATA_KEYS}
    settings["chat"] = (run.record["config"].get("model") or {}).get("chat")
    rows = run.predictions.get((task, BASE)) or run.predictions.get((task, ADAPTED))
    if rows is None:
        return TaskFacts(role, None, None, settings)
    items = tuple(sorted((row.item_hash, row.prompt_hash) for row in rows))
    first: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: row.item_hash):
        first.setdefault(row.group, row.item_hash)
    # A document is known by its first item, so that its name does not count.
    members = json.dumps(sorted((row.item_hash, first[row.group]) for row in rows))
    return TaskFacts(role, items, hashlib.sha256(members.encode()).hexdigest(), settings)


def _difference(first: RunGroup, other: RunGroup) -> Reason | None:
    """Why ``other`` cannot be compared with ``first``; None where it can."""
    if first.imported != other.imported:
        source = first.imported if first.imported is not None else other.imported
        return reason("other_source", f"figures imported from {source} are not of the same items", source=source)
    if first.checkpoint != other.checkpoint:
        name, another = (group.runs[0].record["model"].get("name") for group in (first, other))
        sha, other_sha = first.checkpoint[:_SHOWN], other.checkpoint[:_SHOWN]
        text = f"another base checkpoint: {another} ({other_sha}), not {name} ({sha})"
        hashes = {"checkpoint": sha, "other_checkpoint": other_sha}
        return reason("other_checkpoint", text, model=name, other=another, **hashes)
    shared = sorted(first.tasks.keys() & other.tasks.keys())
    if not shared:
        tasks, others = ", ".join(first.tasks), ", ".join(other.tasks)
        return reason("other_tasks", f"scored on {others}, not on {tasks}", tasks=tasks, other=others)
    found = (_task_difference(task, first.tasks[task], other.tasks[task]) for task in shared)
    return next((reason for reason in found if reason is not None), None)


def _task_difference(task: str, first: TaskFacts, other: TaskFacts) -> Reason | None:
    if first.role != other.role:
        text = f"{task} is a {other.role} task here, a {first.role} task there"
        return reason("other_role", text, task=task, role=first.role, other=other.role)
    if first.items is None or other.items is None:
        return None  # no items are known: what there is are figures, and they get no test
    hashes, others = ({item for item, _ in items} for items in (first.items, other.items))
    if hashes != others:
        text = f"{task}: other items ({len(others)}, not {len(hashes)}; {len(hashes & others)} in common)"
        counts = {"items": len(hashes), "other": len(others), "common": len(hashes & others)}
        return reason("other_items", text, task=task, **counts)
    for key in sorted(first.settings.keys() | other.settings.keys()):
        left, right = first.settings.get(key), other.settings.get(key)
        if left != right:
            text = f"{task}: {key} is {right!r}, not {left!r}"
            return reason("other_settings", text, task=task, key=key, value=left, other=right)
    if first.items != other.items:
        changed = sum(a != b for a, b in zip(first.items, other.items, strict=True))
        text = f"{task}: the prompts differ as token ids ({changed} of {len(hashes)} items)"
        return reason("other_prompts", text, task=task, changed=changed, items=len(hashes))
    if first.documents != other.documents:
        return reason("other_documents", f"{task}: items belong to other documents", task=task)
    return None
