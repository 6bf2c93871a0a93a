"""Score a model on the tasks of a run, compare it with the base on the same items, and let the gates judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_exp.adapters import Attached
from adapter_exp.config import Config
from adapter_exp.evaluation.base_scores import base_predictions, cache_key
from adapter_exp.evaluation.evaluate import Evaluation, evaluate, evaluation_key, summarise
from adapter_exp.evaluation.predictions import Prediction, write_predictions
from adapter_exp.evaluation.run_gates import TaskEvidence, TrainingEvidence, TrainingItems, run_gates
from adapter_exp.evaluation.statistics import Interval, paired_change
from adapter_exp.models.base import Base
from adapter_exp.parallel.world import World
from adapter_exp.preparation import Prepared
from adapter_exp.report.progress import Phase
from adapter_exp.savings import scoring_states
from adapter_exp.session import Session
from adapter_exp.tasks.protocol import Example, Split
from adapter_exp.tracking.resources import processor_name

if TYPE_CHECKING:
    from adapter_exp.engine.frozen import FrozenLayers

PREDICTIONS_FOLDER = "predictions"


def score_base(session: Session, config: Config, base: Base, tasks: Sequence[Prepared]) -> dict[str, Evaluation]:
    """Score the base on every scored task's test items, from disk where these very answers are kept already."""
    results: dict[str, Evaluation] = {}
    keys = {prepared.task.name: _key(config, base, prepared) for prepared in scored(tasks)}
    from_disk = {}
    for prepared in scored(tasks):
        name = prepared.task.name
        with session.phase(f"score base {name}", unit="answers") as shown:
            results[name], from_disk[name] = _base_scores(session, config, base, prepared, keys[name], shown)
        if from_disk[name]:
            session.note(f"{name}: the base's answers are known already")
        _keep(session, "base", name, results)
    trivial = {p.task.name: _trivial(p, results[p.task.name]) for p in scored(tasks)}
    session.record.update("evaluation", {"baseline": trivial, "keys": keys, "base_from_cache": from_disk})
    return results


def score_adapted(
    session: Session, config: Config, base: Base, attached: Attached, tasks: Sequence[Prepared]
) -> dict[str, Evaluation]:
    """Score the model with its adapter on the same items; each task's results are kept at once."""
    frozen = scoring_states(session, config, base, attached)
    results: dict[str, Evaluation] = {}
    for prepared in scored(tasks):
        name = prepared.task.name
        with session.phase(f"score adapted {name}", unit="answers") as shown:
            results[name] = _evaluate(session.world, config, base, prepared, "test", shown, frozen)
        _keep(session, "adapted", name, results)
    return results


def scored(tasks: Sequence[Prepared]) -> list[Prepared]:
    """The tasks that are scored on test; one that is only trained is not."""
    return [prepared for prepared in tasks if prepared.data.role != "trained"]


def _keep(session: Session, label: str, name: str, results: Mapping[str, Evaluation]) -> None:
    folder = session.run_dir / PREDICTIONS_FOLDER
    folder.mkdir(exist_ok=True)
    write_predictions(folder / f"{name}.{label}.jsonl", results[name].predictions)
    metrics = {task: _plain(result.metrics) for task, result in results.items()}
    batch_sizes = {task: result.batch_size for task, result in results.items()}
    session.record.update("evaluation", {label: metrics})
    session.record.update("resources", {f"{label}_batch_size": batch_sizes})  # what fitted, no part of the result


def _base_scores(
    session: Session, config: Config, base: Base, prepared: Prepared, key: str, shown: Phase
) -> tuple[Evaluation, bool]:
    started = time.perf_counter()
    made: list[Evaluation] = []

    def ask() -> list[Prediction]:
        made.append(_evaluate(session.world, config, base, prepared, "test", shown))
        return made[0].predictions

    processor = processor_name(base.device)
    if base.device.type != "cpu":  # fused 4-bit kernels round otherwise than a product with unpacked weights
        processor += f", weights kept {base.kept}"
    cached = cache_key(key, double_quant=config.quantization.double_quant, processor=processor)
    rows = _known_or_asked(session.world, Path(config.cache_dir).expanduser(), cached, ask)
    if made:
        return made[0], False
    seconds = time.perf_counter() - started
    return summarise(prepared.task, rows, seconds=seconds, resamples=config.eval.resamples, seed=config.seed), True


def _known_or_asked(world: World, cache_dir: Path, key: str, ask: Callable[[], list[Prediction]]) -> list[Prediction]:
    """The base's answers: the first process alone looks on the disk, and all of them ask if they are not there."""

    def ask_all() -> list[Prediction]:
        world.from_first(lambda: True)  # what the others wait for below
        return ask()

    rows: list[Prediction] = []
    if world.first:
        rows, known = base_predictions(cache_dir, key, ask_all)
        if known:
            world.from_first(lambda: False)
    elif world.from_first(lambda: True):
        ask()
    return world.from_first(lambda: rows)


def score_validation(session: Session, config: Config, base: Base, attached: Attached, prepared: Prepared) -> None:
    """Score the adapted model on the trained task's validation items, for selection among runs."""
    if not prepared.data.examples["validation"]:
        return
    frozen = scoring_states(session, config, base, attached)
    with session.phase("score validation", unit="answers") as shown:
        result = _evaluate(session.world, config, base, prepared, "validation", shown, frozen)
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


def _evaluate(
    world: World,
    config: Config,
    base: Base,
    prepared: Prepared,
    split: Split,
    shown: Phase,
    frozen: FrozenLayers | None = None,
) -> Evaluation:
    """Score a split's items, each process its share of them."""

    def ask(examples: Sequence[Example], resamples: int) -> Evaluation:
        return evaluate(
            base.model,
            base.tokenizer,
            prepared.renderer,
            prepared.task,
            examples,
            batch_size=config.eval.batch_size,
            speed=config.speed,
            frozen=frozen,
            resamples=resamples,
            seed=config.seed,
            on_progress=shown,
        )

    examples = prepared.data.examples[split]
    if world.size == 1:
        return ask(examples, config.eval.resamples)
    started = time.perf_counter()
    share = world.shared(examples)
    own = ask(share, 2) if share else None  # with intervals that nobody reads
    rows = world.joined(own.predictions if own else [])
    seconds = time.perf_counter() - started
    whole = summarise(prepared.task, rows, seconds=seconds, resamples=config.eval.resamples, seed=config.seed)
    return replace(whole, batch_size=own.batch_size if own else None)


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
        speed=config.speed,
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
