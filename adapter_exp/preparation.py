"""What can be checked before weights are loaded, and the data in the form that training and evaluation use."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adapter_exp.adapters import check_spec, read_manifest
from adapter_exp.adapters.specs import AdapterSpec, SavedSpec
from adapter_exp.config import Config
from adapter_exp.data.rendering import Renderer, TrainingRow
from adapter_exp.data.statistics import split_statistics
from adapter_exp.data.tokenised import tokenise
from adapter_exp.errors import UserError
from adapter_exp.models.shape import ModelShape, read_shape
from adapter_exp.models.specs import ModelConfig
from adapter_exp.tasks.protocol import Example, Split, Task
from adapter_exp.tasks.registry import build_task

if TYPE_CHECKING:
    from adapter_exp.models.base import Base

Role = Literal["special", "general", "trained"]
FEW_CHARACTERS_PER_TOKEN = 2.0


@dataclass(frozen=True)
class TaskData:
    """One task of a run.

    Attributes:
        role: ``special`` and ``general`` tasks are scored; a task that is only ``trained`` is not.
        examples: the splits that this run uses.
    """

    task: Task
    role: Role
    examples: dict[Split, Sequence[Example]]


@dataclass(frozen=True)
class Prepared:
    """A task, tokenised for one model."""

    data: TaskData
    renderer: Renderer
    rows: dict[Split, list[TrainingRow]] = field(default_factory=dict)
    statistics: dict[Split, dict[str, Any]] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """The task itself."""
        return self.data.task


def saved_folder(config: Config) -> Path | None:
    """Folder of the adapter that ``adapter=saved`` scores; None for other kinds."""
    return Path(config.adapter.path).expanduser() if isinstance(config.adapter, SavedSpec) else None


def adapter_spec(config: Config) -> AdapterSpec:
    """The adapter that the run puts on the base: the saved one's own spec for ``adapter=saved``."""
    if isinstance(config.adapter, SavedSpec):
        return read_manifest(Path(config.adapter.path).expanduser()).spec
    return config.adapter


def base_model(config: Config) -> ModelConfig:
    """The base to load: in float32 for full fine-tuning, whose small steps are lost in half precision."""
    if config.adapter.kind == "full" and config.model.dtype == "auto":
        return config.model.model_copy(update={"dtype": "float32"})
    return config.model


def trains(config: Config) -> bool:
    """Whether the run trains anything."""
    return config.adapter.kind not in ("none", "saved")


def check_against_model(config: Config, shape: ModelShape) -> None:
    """Refuse what the model's architecture or the machine does not allow.

    Raises:
        UserError: one line per fault.
    """
    faults = check_spec(config.adapter, shape, quantization=config.quantization.kind, prefix="adapter")
    wanted = config.model.max_length
    if wanted is not None and wanted > shape.context_tokens:
        faults.append(
            f"model.max_length: {wanted} is more than {shape.name}'s context of {shape.context_tokens} tokens."
        )
    faults += _device_faults(config)
    if faults:
        raise UserError(*faults)


def _device_faults(config: Config) -> list[str]:
    from adapter_exp.models.quantization import choose_device

    try:
        on_gpu = choose_device(config.device).type == "cuda"
    except UserError as error:
        return list(error.faults)
    faults = []
    if re.fullmatch(r"cuda:[1-9]\d*", config.device):
        number = config.device.removeprefix("cuda:")
        faults.append(f"device: '{config.device}': choose the GPU with CUDA_VISIBLE_DEVICES={number} and device=cuda.")
    if config.adapter.kind == "full" and config.model.dtype in ("bfloat16", "float16"):
        faults.append(
            f"model.dtype: '{config.model.dtype}' has too few digits for the small steps of full fine-tuning; use auto "
            "or float32, and trainer.precision=bf16 to compute in it."
        )
    if trains(config) and config.trainer.optimizer == "paged_adamw_8bit" and not on_gpu:
        faults.append("trainer.optimizer: 'paged_adamw_8bit' needs a CUDA device; use adamw here.")
    if trains(config) and config.trainer.precision == "fp16" and not on_gpu:
        faults.append("trainer.precision: 'fp16' needs a CUDA device; use auto, fp32 or bf16 here.")
    return faults


def checked_data(config: Config, cache_dir: Path) -> list[TaskData]:
    """Check the adapter against the model's config and read the data; the trained task comes first.

    Raises:
        UserError: one line per fault of either, all in one go.
    """
    faults: list[str] = []
    data: list[TaskData] = []
    try:
        check_against_model(config, read_shape(config.model, cache_dir))
    except UserError as error:
        faults += error.faults
    try:
        data = load_data(config)
    except UserError as error:
        faults += error.faults
    if faults:
        raise UserError(*faults)
    return data


def load_data(config: Config) -> list[TaskData]:
    """Read every split that the run uses; the trained task comes first.

    Raises:
        UserError: when a file is bad, or a split that is needed has no examples.
    """
    special = {settings.name for settings in config.special_tasks}
    settings = {s.name: s for s in (config.task, *config.special_tasks, *config.general_tasks)}
    scored = special | {s.name for s in config.general_tasks}
    loaded = []
    for name, values in settings.items():
        splits: list[Split] = ["test"] if name in scored else []
        if name == config.task.name and trains(config):
            splits = ["train", "validation", *splits]
        if not splits:
            continue
        task = build_task(values)
        examples: dict[Split, Sequence[Example]] = {split: task.load(split) for split in splits}
        _refuse_empty(name, values.path, examples)
        role: Role = "special" if name in special else "general" if name in scored else "trained"
        loaded.append(TaskData(task, role, examples))
    return loaded


def _refuse_empty(name: str, path: str | None, examples: dict[Split, Sequence[Example]]) -> None:
    for split, found in examples.items():
        if not found and split != "validation":
            raise UserError(
                f"task {name}: no {split} examples in {path or 'the bundled sample'} after filtering; "
                "check its path and its length filters."
            )


def prepare(config: Config, data: TaskData, base: Base, cache_dir: Path) -> Prepared:
    """Tokenise a task for ``base`` and describe its splits.

    Raises:
        UserError: when a prompt leaves no room for its answer.
    """
    renderer = renderer_for(config, base, system=data.task.system)
    prepared = Prepared(data, renderer)
    identity = tokenizer_sha256(base.tokenizer)
    for split, examples in data.examples.items():
        rows = tokenise(data.task, examples, renderer, tokenizer_sha256=identity, cache_dir=cache_dir)
        prepared.rows[split] = rows
        if examples:
            prepared.statistics[split] = split_statistics(data.task, examples, rows, base.tokenizer)
    _refuse_long_prompts(data, "validation", prepared.rows, renderer.max_length)
    _refuse_long_prompts(data, "test", prepared.rows, renderer.max_length)
    return prepared


def renderer_for(config: Config, base: Base, *, system: str) -> Renderer:
    """How messages become token ids for ``base``: chat template or plain text, and how long a row may be.

    Raises:
        UserError: when a chat template is asked for and there is none.
    """
    has_template = bool(base.tokenizer.chat_template)
    if config.model.chat == "always" and not has_template:
        raise UserError(f"model.chat: 'always', but {config.model.name}'s tokenizer has no chat template; use auto.")
    return Renderer(
        base.tokenizer,
        system=system,
        chat=has_template and config.model.chat != "never",
        max_length=config.model.max_length or base.shape.context_tokens,
        extra_end_ids=_end_ids(base.model.generation_config.eos_token_id),
    )


def _end_ids(declared: int | list[int] | None) -> frozenset[int]:
    if declared is None:
        return frozenset()
    return frozenset([declared] if isinstance(declared, int) else declared)


def _refuse_long_prompts(data: TaskData, split: Split, tokenised: dict[Split, list[TrainingRow]], limit: int) -> None:
    room = limit - data.task.max_new_tokens
    long = [
        (example.id, row.prompt_tokens)
        for example, row in zip(data.examples.get(split, []), tokenised.get(split, []), strict=True)
        if row.prompt_tokens > room
    ]
    if long:
        name, tokens = long[0]
        raise UserError(
            f"task {data.task.name}: the prompt of item '{name}' has {tokens} tokens; with max_new_tokens="
            f"{data.task.max_new_tokens} at most {room} of {limit} fit ({len(long)} such items). "
            "Leave out long texts or raise model.max_length."
        )


def cap_note(prepared: Prepared) -> str | None:
    """How many test targets are longer than a generated answer may be: no model can give those in full."""
    cap = prepared.task.max_new_tokens
    rows = prepared.rows.get("test", [])
    over = sum(len(row.ids) - row.prompt_tokens > cap for row in rows)
    if not over:
        return None
    return (
        f"{prepared.task.name}: {over} of {len(rows)} test targets are longer than max_new_tokens={cap}, so no model "
        "can answer them in full."
    )


def tokenizer_sha256(tokenizer: Any) -> str:
    """Identity of a tokenizer: vocabulary, rules, special tokens and chat template."""
    special = sorted(tokenizer.special_tokens_map.items())
    text = f"{tokenizer.backend_tokenizer.to_str()}\n{tokenizer.chat_template}\n{special}"
    return hashlib.sha256(text.encode()).hexdigest()


def language_note(prepared: Prepared, model: str) -> str:
    """Characters per token on the task's text: few mean that the model hardly knows the language."""
    split: Split = "train" if "train" in prepared.statistics else "test"
    found = prepared.statistics[split]["characters_per_token"]
    text = f"{prepared.task.name}: {found:.2f} characters per token of {model}"
    if found < FEW_CHARACTERS_PER_TOKEN:
        text += "; it knows little of this language, so rows are long and answers weak"
    return text + "."
