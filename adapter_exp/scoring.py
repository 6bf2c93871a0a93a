"""Score a model on the tasks of a run, compare it with the base on the same items, and let the gates judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from adapter_exp.config import Config
from adapter_exp.evaluation.evaluate import Evaluation, evaluate, evaluation_key
from adapter_exp.evaluation.predictions import write_predictions
from adapter_exp.evaluation.run_gates import TaskEvidence, TrainingEvidence, TrainingItems, run_gates
from adapter_exp.evaluation.statistics import Interval, paired_change
from adapter_exp.models.base import Base
from adapter_exp.preparation import Prepared
from adapter_exp.report.progress import Phase
from adapter_exp.session import Session
from adapter_exp.tasks.protocol import Split

PREDICTIONS_FOLDER = "predictions"


def score(
    session: Session, config: Config, base: Base, tasks: Sequence[Prepared], label: Literal["base", "adapted"]
) -> dict[str, Evaluation]:
    """Score the model as it is now on every scored task's test items; each task's results are kept at once."""
    results: dict[str, Evaluation] = {}
    folder = session.run_dir / PREDICTIONS_FOLDER
    folder.mkdir(exist_ok=True)
    for prepared in tasks:
        name = prepared.task.name
        if prepared.data.role == "trained":
            continue
        with session.phase(f"score {label} {name}", unit="answers") as shown:
            results[name] = _evaluate(config, base, prepared, "test", shown)
        write_predictions(folder / f"{name}.{label}.jsonl", results[name].predictions)
        session.record.update("evaluation", {label: {task: _plain(result.metrics) for task, result in results.items()}})
    if label == "base":
        trivial = {p.task.name: _trivial(p, results[p.task.name]) for p in tasks if p.task.name in results}
        session.record.update("evaluation", {"baseline": trivial})
        keys = {task.task.name: _key(config, base, task) for task in tasks if task.data.role != "trained"}
        session.record.update("evaluation", {"keys": keys})
    return results


def score_validation(session: Session, config: Config, base: Base, prepared: Prepared) -> None:
    """Score the adapted model on the trained task's validation items, for selection among runs."""
    if not prepared.data.examples["validation"]:
        return
    with session.phase("score validation", unit="answers") as shown:
        result = _evaluate(config, base, prepared, "validation", shown)
    session.record.update("validation", {"adapted": {prepared.task.name: _plain(result.metrics)}})


def judge(
    session: Session,
    config: Config,
    tasks: Sequence[Prepared],
    before: Mapping[str, Evaluation],
    after: Mapping[str, Evaluation] | None,
    training: TrainingEvidence | None,
    items: Mapping[str, TrainingItems] | None = None,
) -> None:
    """Record the paired change on every task and what the gates say.

    Args:
        after: the adapted model's results, None for a run of the base alone.
        training: None when nothing was trained.
        items: by task, what the adapter was trained on.
    """
    if after is not None:
        changes = {p.task.name: _change(config, p, before, after) for p in tasks if p.task.name in before}
        session.record.update("evaluation", {"change": {name: _plain(change) for name, change in changes.items()}})
    evidence = [
        TaskEvidence(p.task, before[p.task.name], after[p.task.name] if after is not None else None)
        for p in tasks
        if p.task.name in before
    ]
    session.record.update("gates", run_gates(config.adapter.kind, evidence, training, items))


def _trivial(prepared: Prepared, result: Evaluation) -> dict[str, Any]:
    """What the same answer to every item scores (majority label, empty answer): it stands beside every score."""
    baselines = prepared.task.baselines(result.outcomes)
    return {metric: {"value": value, "low": None, "high": None} for metric, value in baselines.items()}


def _evaluate(config: Config, base: Base, prepared: Prepared, split: Split, shown: Phase) -> Evaluation:
    return evaluate(
        base.model,
        base.tokenizer,
        prepared.renderer,
        prepared.task,
        prepared.data.examples[split],
        batch_size=config.eval.batch_size,
        resamples=config.eval.resamples,
        seed=config.seed,
        on_progress=shown,
    )


def _key(config: Config, base: Base, prepared: Prepared) -> str:
    return evaluation_key(
        prepared.renderer,
        prepared.task,
        prepared.data.examples["test"],
        checkpoint_sha256=base.checkpoint_sha256,
        quantization=base.quantization,
        compute_dtype=str(base.compute_dtype),
        device=base.device.type,
        decoding=None,
        batch_size=config.eval.batch_size,
    )


def _change(
    config: Config, prepared: Prepared, before: Mapping[str, Evaluation], after: Mapping[str, Evaluation]
) -> dict[str, Interval]:
    base, adapted = before[prepared.task.name].predictions, after[prepared.task.name].predictions
    return paired_change(
        prepared.task.aggregate,
        [row.statistics for row in base],
        [row.statistics for row in adapted],
        base_hashes=[row.item_hash for row in base],
        adapted_hashes=[row.item_hash for row in adapted],
        groups=[row.group for row in base],
        resamples=config.eval.resamples,
        seed=config.seed,
    )


def _plain(metrics: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: interval.as_dict() for name, interval in metrics.items()}
