"""What a split holds, in numbers: sizes, lengths, truncation, label balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from adapter_exp.data.fingerprint import dataset_fingerprint
from adapter_exp.data.rendering import TrainingRow
from adapter_exp.tasks.protocol import Example, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MAX_LABELS = 10


def split_statistics(
    task: Task, examples: Sequence[Example], rows: Sequence[TrainingRow], tokenizer: PreTrainedTokenizerFast
) -> dict[str, Any]:
    """JSON-able description of a split.

    Args:
        examples: at least one.
        rows: the same examples, tokenised; ``tokens`` counts prompt, template, answer and end token.

    Returns:
        ``fingerprint``, ``items``, ``groups``; ``truncated`` and ``truncated_share`` (rows that lost the end of their
        answer); ``characters`` and ``raw_tokens`` of the user's message and the target, ``tokens`` of the whole row
        and ``supervised_tokens``, each with mean, median, 95th percentile, max and total; ``characters_per_token``,
        over raw tokens; ``labels``: how often each target occurs, None when more than ten are distinct.
    """
    texts = [(task.prompt(e), task.target(e)) for e in examples]
    characters = [len(prompt) + len(target) for prompt, target in texts]
    raw = [sum(len(ids) for ids in tokenizer(list(pair), add_special_tokens=False)["input_ids"]) for pair in texts]
    tokens = [len(row.ids) for row in rows]
    labels = Counter(target for _, target in texts)
    truncated = sum(row.truncated for row in rows)
    return {
        "fingerprint": dataset_fingerprint(task, examples),
        "items": len(examples),
        "groups": len({e.group for e in examples}),
        "truncated": truncated,
        "truncated_share": truncated / len(rows),
        "characters": _summary(characters),
        "raw_tokens": _summary(raw),
        "tokens": _summary(tokens),
        "supervised_tokens": _summary([len(row.ids) - row.prompt_tokens for row in rows]),
        "characters_per_token": sum(characters) / sum(raw),
        "labels": dict(labels.most_common()) if len(labels) <= MAX_LABELS else None,
    }


def _summary(values: Sequence[int]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "mean": mean(ordered),
        "median": ordered[len(ordered) // 2],
        "p95": ordered[int(0.95 * (len(ordered) - 1))],
        "max": ordered[-1],
        "total": sum(ordered),
    }
