"""Reasons to withhold a claim: each gate looks at one thing that makes a score mean less than it seems.

A gate that failed says nothing about the run as a whole: it withholds the claims on its task and model. The numbers
stay, with the reason beside them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from adapter_exp.evaluation.predictions import Prediction

PARSE_FAILURES_LIMIT = 0.2
"""Above this share of unread answers a score says more about the format than about the task."""

TRUNCATED_LIMIT = 0.01
"""Above this share of rows that lost the end of their answer, training teaches answers without an end."""

LOSS_EXPLODED = 2.0
"""The loss exploded when its last fifth averages more than this many times its first fifth."""

Finding = Literal["higher", "lower", "tie"]
"""What a paired comparison shows; a tie is a difference that was not shown."""

GOOD_NEWS: frozenset[Finding] = frozenset({"higher", "tie"})
"""What a claim that nothing was lost can say."""

ONLY_GOOD_NEWS = frozenset({"majority", "parse_failures"})
"""Gates that only make good news doubtful: an adapter can fail them because it did damage, and that has to be told."""

IGNORED_LABEL = -100
"""Label of a position that the loss leaves out (PyTorch's ``ignore_index``)."""


@dataclass(frozen=True)
class Gate:
    """One check.

    Attributes:
        reason: a sentence with the numbers, whether it passed or not.
        task: the task it judges; None for all.
        model: ``base`` or ``adapted``; None for both.
        values: the numbers of ``reason``, so that it can be told in another language.
    """

    name: str
    passed: bool
    reason: str
    task: str | None = None
    model: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


def withheld_by(gate: Mapping[str, Any]) -> frozenset[Finding]:
    """Findings on the change that a failed ``gate``, as a record holds it, withholds.

    A gate that only the base fails withholds claims about the base: an untuned model that cannot read the asked format
    is what training sets out to change.
    """
    if gate.get("model") == "base":
        return frozenset()
    return GOOD_NEWS if gate["name"] in ONLY_GOOD_NEWS else GOOD_NEWS | {"lower"}


@dataclass(frozen=True)
class Supervision:
    """What the loss sees of the training rows.

    Attributes:
        rows: training rows.
        truncated: rows that lost the end of their answer to the length limit.
        unsupervised: rows without any supervised token.
        with_end: rows with an end token among the supervised ones.
    """

    rows: int
    truncated: int
    unsupervised: int
    with_end: int


def count_supervision(
    labels: Iterable[Sequence[int]], truncated: Iterable[bool], end_ids: Collection[int]
) -> Supervision:
    """Count over the labels that the loss is computed on (``-100`` where it is not), one sequence a row."""
    rows = truncated_rows = unsupervised = with_end = 0
    for row, cut in zip(labels, truncated, strict=True):
        supervised = {label for label in row if label != IGNORED_LABEL}
        rows += 1
        truncated_rows += cut
        unsupervised += not supervised
        with_end += not supervised.isdisjoint(end_ids)
    return Supervision(rows, truncated_rows, unsupervised, with_end)


def one_label(task: str, targets: Sequence[str]) -> Gate:
    """Fail when all evaluated items have one and the same target: any constant answer is then right."""
    distinct = len(set(targets))
    reason = f"{len(targets)} evaluation items have {distinct} distinct target(s)"
    return Gate("one_label", distinct > 1, reason, task, values={"items": len(targets), "distinct": distinct})


def majority(task: str, model: str, metric: str, score: float, baselines: Mapping[str, float]) -> Gate:
    """Fail when a trivial answer (majority label, empty answer) scores at least what the model does.

    Args:
        baselines: of ``Task.baselines`` on the same items.
    """
    if metric not in baselines:
        return Gate("majority", True, f"{metric} has no trivial baseline", task, model, {"metric": metric})
    trivial = baselines[metric]
    reason = f"{metric} is {score:.4f}, the best trivial answer reaches {trivial:.4f}"
    values = {"metric": metric, "score": score, "trivial": trivial}
    return Gate("majority", score > trivial, reason, task, model, values)


def overlap(
    task: str,
    *,
    train_hashes: Collection[str],
    evaluation_hashes: Collection[str],
    train_groups: Collection[str],
    evaluation_groups: Collection[str],
) -> Gate:
    """Fail when an evaluated item was trained on; a shared document or premise is told and passes."""
    trained, groups = set(train_hashes), set(train_groups)
    same = sum(item in trained for item in evaluation_hashes)
    shared = len(groups.intersection(evaluation_groups))
    reason = (
        f"{same} of {len(evaluation_hashes)} evaluation items are training items; "
        f"{shared} of {len(set(evaluation_groups))} groups (documents, premises) are also in training"
    )
    values = {
        "same": same,
        "items": len(evaluation_hashes),
        "shared_groups": shared,
        "groups": len(set(evaluation_groups)),
    }
    return Gate("overlap", same == 0, reason, task, values=values)


def truncated_targets(counts: Supervision, limit: float = TRUNCATED_LIMIT) -> Gate:
    """Fail when more than ``limit`` of the training rows lost the end of their answer."""
    reason = f"{counts.truncated} of {counts.rows} training rows lost the end of their answer (limit {limit:.0%})"
    values = {"truncated": counts.truncated, "rows": counts.rows, "limit": limit}
    return Gate("truncated_targets", counts.truncated <= limit * counts.rows, reason, None, "adapted", values)


def all_masked(counts: Supervision) -> Gate:
    """Fail when a training row has no supervised token."""
    reason = f"{counts.unsupervised} of {counts.rows} training rows have no supervised token"
    values = {"unsupervised": counts.unsupervised, "rows": counts.rows}
    return Gate("all_masked", counts.unsupervised == 0, reason, None, "adapted", values)


def eos_unsupervised(counts: Supervision) -> Gate:
    """Fail when a whole (not truncated) row has no end token in the loss: the model would not learn to stop."""
    whole = counts.rows - counts.truncated
    reason = f"{counts.with_end} training rows supervise an end token, {whole} of {counts.rows} are not truncated"
    values = {"with_end": counts.with_end, "whole": whole, "rows": counts.rows}
    passed = counts.with_end >= whole and counts.with_end > 0
    return Gate("eos_unsupervised", passed, reason, None, "adapted", values)


def parse_failures(task: str, model: str, unparsed: int, items: int, limit: float = PARSE_FAILURES_LIMIT) -> Gate:
    """Fail when more than ``limit`` of the answers could not be read."""
    reason = f"{unparsed} of {items} answers could not be read (limit {limit:.0%})"
    values = {"unparsed": unparsed, "items": items, "limit": limit}
    return Gate("parse_failures", unparsed <= limit * items, reason, task, model, values)


def base_changed(before: str, after: str) -> Gate:
    """Fail when the base weights' hash moved: base and adapted would be two different models."""
    same = before == after
    reason = f"base weights {before[:12]} before training, {after[:12]} after{'' if same else ': they changed'}"
    return Gate("base_changed", same, reason, values={"before": before, "after": after})


def loss_exploding(losses: Sequence[float]) -> Gate:
    """Fail when a loss is not finite, or the end of the curve is far above its start."""
    if (gate := _without_direction("loss_exploding", losses)) is not None:
        return gate
    start, end = _ends(losses)
    reason = f"loss went from {start:.4f} to {end:.4f} (means of the first and last fifth; limit {LOSS_EXPLODED}x)"
    values = {"start": start, "end": end, "limit": LOSS_EXPLODED}
    return Gate("loss_exploding", end <= LOSS_EXPLODED * start, reason, None, "adapted", values)


def loss_not_falling(losses: Sequence[float]) -> Gate:
    """Fail when the loss ends where it began, or higher, or is not a number."""
    if (gate := _without_direction("loss_not_falling", losses)) is not None:
        return gate
    start, end = _ends(losses)
    reason = f"loss went from {start:.4f} to {end:.4f} (means of the first and last fifth)"
    return Gate("loss_not_falling", end < start, reason, None, "adapted", {"start": start, "end": end})


def adapter_without_effect(task: str, base: Sequence[Prediction], adapted: Sequence[Prediction]) -> Gate:
    """Fail when every text and every log-likelihood equals the base model's."""
    pairs = zip(base, adapted, strict=True)
    changed = sum((a.response, a.logprobs) != (b.response, b.logprobs) for b, a in pairs)
    reason = f"{changed} of {len(base)} answers differ from the base model's"
    values = {"changed": changed, "items": len(base)}
    return Gate("adapter_without_effect", changed > 0, reason, task, "adapted", values)


def bytes_mismatch(tensor_bytes: int, parameters: int, bytes_per_parameter: int) -> Gate:
    """Fail when the saved adapter holds more or fewer bytes than its trained parameters take.

    Args:
        tensor_bytes: of ``saved_tensor_bytes``: tensors alone, so no tolerance for headers is needed.
    """
    expected = parameters * bytes_per_parameter
    reason = f"saved tensors take {tensor_bytes} bytes, {parameters} parameters x {bytes_per_parameter} take {expected}"
    values = {
        "tensor_bytes": tensor_bytes,
        "parameters": parameters,
        "bytes_per_parameter": bytes_per_parameter,
        "expected": expected,
    }
    return Gate("bytes_mismatch", tensor_bytes == expected, reason, None, "adapted", values)


def saved_tensor_bytes(folder: Path) -> int:
    """Bytes of all tensors in the folder's safetensors files, headers left out.

    A file begins with its header's length (8 bytes, little-endian) and the header; tensors fill the rest.
    """
    total = 0
    for path in sorted(folder.rglob("*.safetensors")):
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        total += path.stat().st_size - 8 - header
    return total


def _ends(losses: Sequence[float]) -> tuple[float, float]:
    """Means of the first and of the last fifth of the curve: single batches are too noisy to compare."""
    width = max(1, len(losses) // 5)
    return fmean(losses[:width]), fmean(losses[-width:])


def _without_direction(name: str, losses: Sequence[float]) -> Gate | None:
    """The gate of a curve that has no direction: failed where a loss is not finite, passed where there are too few."""
    broken = next((number for number, loss in enumerate(losses) if not math.isfinite(loss)), None)
    if broken is not None:
        values = {"number": broken, "loss": str(losses[broken])}  # text: JSON has neither NaN nor infinity
        return Gate(name, False, f"logged loss {broken} is {losses[broken]}", None, "adapted", values)
    if len(losses) < 2:
        reason = f"{len(losses)} logged loss(es): too few to see a direction"
        return Gate(name, True, reason, None, "adapted", {"losses": len(losses)})
    return None
