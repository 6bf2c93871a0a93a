"""Which gates apply to a run, in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from adapter_exp.evaluation import gates
from adapter_exp.evaluation.evaluate import Evaluation
from adapter_exp.evaluation.gates import Gate, Supervision
from adapter_exp.tasks.protocol import Task


@dataclass(frozen=True)
class TrainingItems:
    """Hashes and groups of the items that were trained on."""

    hashes: frozenset[str]
    groups: frozenset[str]


@dataclass(frozen=True)
class TrainingEvidence:
    """What the gates need to know of a training run.

    Attributes:
        losses: logged training losses, in order.
        base_sha256_before, base_sha256_after: hash of the base weights around training.
        tensor_bytes: of ``gates.saved_tensor_bytes``.
        parameters, bytes_per_parameter: trained parameters and the size of one as saved.
    """

    supervision: Supervision
    losses: Sequence[float]
    base_sha256_before: str
    base_sha256_after: str
    tensor_bytes: int
    parameters: int
    bytes_per_parameter: int


@dataclass(frozen=True)
class TaskEvidence:
    """One task's evaluations on the same items; ``adapted`` is None for a run of the base model alone."""

    task: Task
    base: Evaluation
    adapted: Evaluation | None


def run_gates(
    kind: str,
    tasks: Sequence[TaskEvidence],
    training: TrainingEvidence | None,
    items: Mapping[str, TrainingItems] | None = None,
) -> list[Gate]:
    """Every gate that applies.

    Args:
        kind: the adapter's kind. ``none`` has no adapter to judge; ``full`` changes the base weights and saves the
            whole model by definition, so it skips ``base_changed`` and ``bytes_mismatch``.
        training: None when nothing was trained (``none``, ``saved``).
        items: by task name, what the adapter was trained on, in this run or an earlier one, as far as it is known.
    """
    found = [gate for evidence in tasks for gate in _task_gates(evidence, items or {})]
    if kind == "none" or training is None:
        return found
    return [*found, *_training_gates(kind, training)]


def _task_gates(evidence: TaskEvidence, items: Mapping[str, TrainingItems]) -> Iterator[Gate]:
    task, name = evidence.task, evidence.task.name
    rows = evidence.base.predictions
    yield gates.one_label(name, [row.target for row in rows])
    if name in items:
        yield gates.overlap(
            name,
            train_hashes=items[name].hashes,
            evaluation_hashes=[row.item_hash for row in rows],
            train_groups=items[name].groups,
            evaluation_groups=[row.group for row in rows],
        )
    for model, result in (("base", evidence.base), ("adapted", evidence.adapted)):
        if result is not None:
            baselines = task.baselines(result.outcomes)
            yield gates.majority(name, model, task.primary, result.metrics[task.primary].value, baselines)
            yield gates.parse_failures(name, model, result.unparsed, len(result.predictions))
    if evidence.adapted is not None:
        yield gates.adapter_without_effect(name, rows, evidence.adapted.predictions)


def _training_gates(kind: str, training: TrainingEvidence) -> Iterator[Gate]:
    yield gates.truncated_targets(training.supervision)
    yield gates.all_masked(training.supervision)
    yield gates.eos_unsupervised(training.supervision)
    yield gates.loss_exploding(training.losses)
    yield gates.loss_not_falling(training.losses)
    if kind != "full":
        yield gates.base_changed(training.base_sha256_before, training.base_sha256_after)
        yield gates.bytes_mismatch(training.tensor_bytes, training.parameters, training.bytes_per_parameter)
