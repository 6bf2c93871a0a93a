"""What a run writes into its record besides scores, and the evidence that its gates need."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_exp.adapters import Attached
from adapter_exp.config import Config
from adapter_exp.data.fingerprint import item_hash
from adapter_exp.data.rendering import TrainingRow
from adapter_exp.errors import UserError
from adapter_exp.evaluation.gates import count_supervision, saved_tensor_bytes
from adapter_exp.evaluation.run_gates import TrainingEvidence, TrainingItems
from adapter_exp.files import write_json_atomic
from adapter_exp.models.base import Base
from adapter_exp.models.weights import weight_bytes
from adapter_exp.preparation import Prepared, cap_note, language_note
from adapter_exp.report.terminal import print_example
from adapter_exp.session import Session
from adapter_exp.tracking.resources import device_name

if TYPE_CHECKING:
    from adapter_exp.training.flow import StepReport
    from adapter_exp.training.memory import MemoryPlan
    from adapter_exp.training.train import TrainingResult


ITEMS_FILE = "training_items.json"


def record_inputs(session: Session, config: Config, base: Base, tasks: Sequence[Prepared]) -> None:
    """Record the model and the data, and show what is worth knowing about them."""
    session.record.update(
        "model",
        {
            "name": config.model.name,
            "source": base.source,
            "revision": base.revision,
            "checkpoint_sha256": base.checkpoint_sha256,
            "quantization": base.quantization,
            "kept": base.kept,
            "compute_dtype": str(base.compute_dtype).removeprefix("torch."),
            "device": base.device.type,
            "total_parameters": base.shape.parameters,
            "trainable_parameters": 0,
            "weight_bytes": weight_bytes(base.model),
        },
    )
    session.record.update("host", {"device": device_name(base.device), "processes": session.world.size})
    session.record.update("data", {p.task.name: p.statistics for p in tasks})
    scored = {p.task.name: {"primary": p.task.primary, "role": p.data.role} for p in tasks if p.data.role != "trained"}
    session.record.update("tasks", scored)
    session.note(*base.notes, *(language_note(prepared, config.model.name) for prepared in tasks))
    session.note(*filter(None, map(cap_note, tasks)))


def show_example(session: Session, prepared: Prepared) -> None:
    """Show the first training row with what is supervised in it: the quickest check of template and masks."""
    row, tokenizer = prepared.rows["train"][0], prepared.renderer.tokenizer
    prompt, supervised = tokenizer.decode(row.ids[: row.prompt_tokens]), tokenizer.decode(row.ids[row.prompt_tokens :])
    print_example(str(prompt), str(supervised), console=session.console)


def record_adapter(session: Session, attached: Attached) -> None:
    """Record the adapter's size."""
    session.record.update("model", {"trainable_parameters": attached.trainable_parameters()})


def record_memory(session: Session, plan: MemoryPlan) -> None:
    """Record what training is predicted to hold at its peak, and show it."""
    parts = {name: getattr(plan, name) for name in ("weights", "activations", "optimizer", "other")}
    found = {"predicted_peak_bytes": plan.peak_bytes, "predicted_bytes": parts, "pieces": plan.pieces}
    session.record.update("resources", {**found, "planning_s": plan.seconds})
    session.note(*plan.notes())


@contextmanager
def recorded_losses(session: Session) -> Iterator[Callable[[StepReport], None]]:
    """Yield a function that keeps losses; if the block fails, the record gets those that were had until then."""
    curves: dict[str, list[dict[str, float]]] = {"loss": [], "validation_loss": []}

    def keep(report: StepReport) -> None:
        name = "validation_loss" if report.validation else "loss"
        curves[name].append({"step": report.step, "loss": report.loss})

    try:
        yield keep
    except BaseException:
        with contextlib.suppress(OSError):  # a full disk is one of the reasons
            session.record.update("training", curves)
        raise


def record_training(session: Session, prepared: Prepared, result: TrainingResult, adapter_folder: Path) -> None:
    """Record what training did and what was saved."""
    statistics = prepared.statistics["train"]
    raw_share = statistics["raw_tokens"]["total"] / statistics["tokens"]["total"]
    session.record.update(
        "training",
        {
            "steps": result.steps,
            "epochs": result.epochs,
            "best_step": result.best_step,
            "tokens": {
                "raw": round(result.tokens * raw_share),
                "template": result.tokens,
                "padded": max(result.tokens, result.computed_tokens),
                "computed": result.computed_tokens,
            },
            "tokens_per_s": result.tokens_per_s,
            "loss": [{"step": step, "loss": loss} for step, loss in result.loss],
            "validation_loss": [{"step": step, "loss": loss} for step, loss in result.validation_loss],
        },
    )
    saved = sum(path.stat().st_size for path in adapter_folder.rglob("*.safetensors"))
    session.record.update("model", {"adapter_bytes": saved})


def write_items(adapter_folder: Path, name: str, items: TrainingItems) -> None:
    """Keep which items an adapter was trained on beside it, so that scoring it later can tell an overlap."""
    values = {name: {"hashes": sorted(items.hashes), "groups": sorted(items.groups)}}
    write_json_atomic(adapter_folder / ITEMS_FILE, values)


def read_items(adapter_folder: Path) -> dict[str, TrainingItems]:
    """By task, what the adapter was trained on; empty for an adapter of another tool.

    Raises:
        UserError: if the file is damaged.
    """
    path = adapter_folder / ITEMS_FILE
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {
            name: TrainingItems(frozenset(entry["hashes"]), frozenset(entry["groups"]))
            for name, entry in values.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({error}); save the adapter again, or delete this file.") from error


def training_items(prepared: Prepared) -> TrainingItems:
    """Hashes and groups of the items that the run trains on."""
    task, examples = prepared.task, prepared.data.examples["train"]
    return TrainingItems(
        hashes=frozenset(item_hash(task.name, task.content(example)) for example in examples),
        groups=frozenset(example.group for example in examples),
    )


def training_evidence(
    prepared: Prepared,
    attached: Attached,
    result: TrainingResult,
    *,
    adapter_folder: Path,
    base_hashes: tuple[str, str],
) -> TrainingEvidence:
    """What the gates need to know of the training.

    Args:
        base_hashes: of the base weights before and after training.
    """
    from adapter_exp.training.batches import IGNORED_LABEL

    def labels(row: TrainingRow) -> list[int]:
        return [IGNORED_LABEL] * row.prompt_tokens + row.ids[row.prompt_tokens :]

    rows = prepared.rows["train"]
    return TrainingEvidence(
        supervision=count_supervision(
            [labels(row) for row in rows], [row.truncated for row in rows], prepared.renderer.end_ids
        ),
        losses=[loss for _, loss in result.loss],
        base_sha256_before=base_hashes[0],
        base_sha256_after=base_hashes[1],
        tensor_bytes=saved_tensor_bytes(adapter_folder),
        parameters=attached.trainable_parameters(),
        bytes_per_parameter=4,
    )
