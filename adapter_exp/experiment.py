"""One experiment from configuration to record, top to bottom.

data -> base -> score the base -> attach -> train -> score the same items again -> gates -> record, plots, MLflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from adapter_exp.adapters import Attached, attach, load, read_manifest, refuse_other_base
from adapter_exp.adapters.manifest import ADAPTER_FOLDER
from adapter_exp.config import Config
from adapter_exp.evaluation.evaluate import Evaluation
from adapter_exp.evaluation.run_gates import TrainingEvidence
from adapter_exp.models.base import Base, load_base, prove_unchanged
from adapter_exp.models.weights import weights_sha256
from adapter_exp.parallel.helping import agreed_model, agreed_quantization, unseen
from adapter_exp.parallel.world import ALONE, World
from adapter_exp.preparation import Prepared, adapter_spec, base_model, checked_data, prepare, saved_folder, trains
from adapter_exp.recording import (
    read_items,
    record_adapter,
    record_inputs,
    record_memory,
    record_training,
    recorded_losses,
    show_example,
    training_evidence,
    training_items,
    write_items,
)
from adapter_exp.resume import find_unfinished, is_job_of, refuse_used, remove_unused
from adapter_exp.savings import collation
from adapter_exp.scoring import judge, score_adapted, score_base, score_validation
from adapter_exp.session import InSweep, Session, open_session
from adapter_exp.tracking.record import RecordData


def run_experiment(
    config: Config, run_dir: Path, *, in_sweep: InSweep | None = None, world: World = ALONE
) -> RecordData:
    """Run one experiment and return its record.

    Args:
        run_dir: the run's folder, without a run in it; with ``resume=auto`` an unfinished run's takes its place.
        in_sweep: given for a job of a sweep, which goes on with an unfinished run of its own in ``run_dir``.
        world: the processes that make this run together. All but the first have a ``run_dir`` that nobody looks at.

    Raises:
        UserError: bad input.
        Cancelled: the user or the system stopped the run; ``resume=auto`` goes on with it.
    """
    cache_dir = Path(config.cache_dir).expanduser()
    config = config if world.first else unseen(config)
    try:
        data = checked_data(config, cache_dir)
        unfinished = _unfinished(config, run_dir, in_sweep) if world.first else None
        refuse_used(run_dir, unfinished)
    except BaseException:
        remove_unused(run_dir)  # nothing was done: leave no empty folder behind
        raise
    if unfinished not in (None, run_dir):
        remove_unused(run_dir)
    with open_session(config, unfinished or run_dir, in_sweep, world=world) as session:
        if config.resume == "auto" or unfinished:
            session.note(f"going on with {unfinished}" if unfinished else "no unfinished run of this configuration")
        with session.phase("load base"):
            model = agreed_model(base_model(config), config.device, world)
            quantization = agreed_quantization(config.quantization, model, config.device, cache_dir, world)
            base = load_base(model, quantization, cache_dir=cache_dir, device=config.device)
            tasks = [prepare(config, task, base, cache_dir) for task in data]
        record_inputs(session, config, base, tasks)
        if trains(config):
            show_example(session, tasks[0])
        before = score_base(session, config, base, tasks)
        if config.adapter.kind == "none":
            judge(session, config, tasks, before, None, None)
        else:
            _with_adapter(session, config, base, tasks, before)
            prove_unchanged(base)  # the next job of a sweep gets this very model
    return session.record.data


def _unfinished(config: Config, run_dir: Path, in_sweep: InSweep | None) -> Path | None:
    """The folder of the run to go on with, if there is one."""
    if in_sweep is not None:
        return run_dir if is_job_of(run_dir, config.sha256) else None
    return find_unfinished(Path(config.output_dir), config.sha256) if config.resume == "auto" else None


def _with_adapter(
    session: Session, config: Config, base: Base, tasks: Sequence[Prepared], before: Mapping[str, Evaluation]
) -> None:
    """Put the adapter on, train it unless it was saved, score it, and take it off again whatever happens."""
    attached = _adapter(session, config, base)
    try:
        record_adapter(session, attached)
        training = _train(session, config, base, attached, tasks[0]) if trains(config) else None
        after = score_adapted(session, config, base, attached, tasks)
        if training is not None and config.eval.validation:
            score_validation(session, config, base, attached, tasks[0])
        items = read_items(saved_folder(config) or session.run_dir / ADAPTER_FOLDER)
        judge(session, config, tasks, before, after, training, items)
    finally:
        attached.detach()


def _adapter(session: Session, config: Config, base: Base) -> Attached:
    from transformers import set_seed

    folder = saved_folder(config)
    if folder is not None:
        trained_on = read_manifest(folder).quantization
        if trained_on not in (None, config.quantization.kind):
            session.note(
                f"the adapter was trained on a base in {trained_on}, this one is in {config.quantization.kind}"
            )
        return load(base.model, folder, base_sha256=base.checkpoint_sha256, quantization=config.quantization.kind)
    set_seed(config.seed)  # before attaching: LoRA's A matrix is drawn here
    return attach(base.model, adapter_spec(config), quantization=config.quantization.kind)


def _train(session: Session, config: Config, base: Base, attached: Attached, prepared: Prepared) -> TrainingEvidence:
    from adapter_exp.training.checkpoints import newest_checkpoint
    from adapter_exp.training.flow import StepReport
    from adapter_exp.training.train import build_trainer, train

    def save(folder: Path) -> None:
        facts = {"name": config.model.name, "sha256": base.checkpoint_sha256, "source": base.source}
        attached.save(folder, base=facts, tokenizer=base.tokenizer)

    collate = collation(session, config, base, attached, prepared)
    checkpoint = session.world.from_first(lambda: newest_checkpoint(session.run_dir))
    if checkpoint is not None:
        refuse_other_base(checkpoint / ADAPTER_FOLDER, base.checkpoint_sha256)
        session.note(f"training goes on from {checkpoint}")
    with session.phase("train", unit="steps") as shown, recorded_losses(session) as keep_loss:

        def on_step(report: StepReport) -> None:
            keep_loss(report)
            if report.validation:
                session.tracker.log_validation_loss(report.step, report.loss)
            else:
                session.tracker.log_loss(report.step, report.loss)
                shown.step(report.step, report.total_steps, loss=report.loss, tokens_per_s=report.tokens_per_s)

        trainer = build_trainer(
            attached,
            prepared.rows["train"],
            prepared.rows["validation"],
            config.trainer,
            seed=config.seed,
            collate=collate,
            dtype=base.compute_dtype,
            run_dir=session.run_dir,
            save_adapter=save,
            cancellation=session.cancellation,
            world=session.world,
            fused=config.speed.fused,
        )
        on_memory = partial(record_memory, session)
        result = train(trainer, config.trainer, resume_from=checkpoint, on_step=on_step, on_memory=on_memory)
    folder = session.run_dir / ADAPTER_FOLDER
    save(folder)
    write_items(folder, prepared.task.name, training_items(prepared))
    record_training(session, prepared, result, folder)
    hashes = base.weights_sha256, weights_sha256(base.model)
    return training_evidence(prepared, attached, result, adapter_folder=folder, base_hashes=hashes)
