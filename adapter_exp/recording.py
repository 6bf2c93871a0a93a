"""What a run writes into its record besides scores, and the evidence that its gates need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_exp.adapters import Attached
from adapter_exp.config import Config
from adapter_exp.data.fingerprint import item_hash
from adapter_exp.data.rendering import TrainingRow
from adapter_exp.evaluation.gates import count_supervision, saved_tensor_bytes
from adapter_exp.evaluation.run_gates import TrainingEvidence, TrainingItems
from adapter_exp.models.base import Base
from adapter_exp.models.weights import weight_bytes
from adapter_exp.preparation import Prepared, language_note
from adapter_exp.report.terminal import print_example
from adapter_exp.session import Session

if TYPE_CHECKING:
    from adapter_exp.training.train import TrainingResult


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
            "compute_dtype": str(base.compute_dtype).removeprefix("torch."),
            "device": base.device.type,
            "total_parameters": base.shape.parameters,
            "trainable_parameters": 0,
            "weight_bytes": weight_bytes(base.model),
        },
    )
    session.record.update("data", {p.task.name: p.statistics for p in tasks})
    scored = {p.task.name: {"primary": p.task.primary, "role": p.data.role} for p in tasks if p.data.role != "trained"}
    session.record.update("tasks", scored)
    session.note(*base.notes, *(language_note(prepared, config.model.name) for prepared in tasks))


def show_example(session: Session, prepared: Prepared) -> None:
    """Show the first training row with what is supervised in it: the quickest check of template and masks."""
    row, tokenizer = prepared.rows["train"][0], prepared.renderer.tokenizer
    prompt, supervised = tokenizer.decode(row.ids[: row.prompt_tokens]), tokenizer.decode(row.ids[row.prompt_tokens :])
    print_example(str(prompt), str(supervised), console=session.console)


def record_adapter(session: Session, attached: Attached) -> None:
    """Record the adapter's size."""
    session.record.update("model", {"trainable_parameters": attached.trainable_parameters()})


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
                "padded": result.padded_tokens,
            },
            "tokens_per_s": result.tokens_per_s,
            "loss": [{"step": step, "loss": loss} for step, loss in result.loss],
            "validation_loss": [{"step": step, "loss": loss} for step, loss in result.validation_loss],
        },
    )
    saved = sum(path.stat().st_size for path in adapter_folder.rglob("*.safetensors"))
    session.record.update("model", {"adapter_bytes": saved})


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

    task, examples, rows = prepared.task, prepared.data.examples["train"], prepared.rows["train"]
    items = TrainingItems(
        hashes=frozenset(item_hash(task.name, task.content(example)) for example in examples),
        groups=frozenset(example.group for example in examples),
    )
    return TrainingEvidence(
        items={task.name: items},
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
