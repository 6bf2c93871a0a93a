"""The typed configuration of a run: one schema over the plain YAML, every fault told in one line.

Imports no torch: ``--cfg job``, ``--info`` and shell completion stay quick.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from adapter_exp.adapters.specs import AdapterSpec
from adapter_exp.config_faults import faults_of, nearest
from adapter_exp.engine.specs import SpeedConfig
from adapter_exp.errors import UserError
from adapter_exp.evaluation.specs import BatchSize
from adapter_exp.models.specs import ModelConfig, QuantizationConfig
from adapter_exp.tasks.config import TaskConfig
from adapter_exp.tasks.metrics import metric_names
from adapter_exp.tasks.registry import build_task, config_class, task_names
from adapter_exp.tracking.specs import TrackingConfig
from adapter_exp.training.specs import TrainerConfig

if TYPE_CHECKING:
    AnyTaskConfig = TaskConfig
else:  # one arm per registered task, told apart by its name
    AnyTaskConfig = Annotated[Union[tuple(map(config_class, task_names()))], Field(discriminator="name")]  # noqa: UP007 - made at run time

NOT_IDENTITY = ("resume", "resume_sweep", "isolate", "lang", "tracking", "cache_dir", "output_dir")
"""Keys that do not change a run's numbers, and so not its identity."""

# How OmegaConf writes a value that the user has to give.
_MISSING = "???"


def _task_name(name: str) -> str:
    if name not in task_names():
        raise ValueError(f"'{name}' is not a task.{nearest(name, task_names())} Tasks: {', '.join(task_names())}")
    return name


TaskName = Annotated[str, AfterValidator(_task_name)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EvalConfig(_Section):
    """What is scored, before and after training.

    Attributes:
        special: tasks the adapter should gain on; None: the trained task.
        general: tasks that show what it forgot; None: terra, or nerus when terra is trained.
        tasks: settings of tasks other than the trained one, by name.
        batch_size: most rows computed together; ``auto``: as many as pay and fit into memory.
        validation: score the adapted model on the trained task's validation split too.
        resamples: bootstrap draws of every interval.
        objective: ``task/metric`` on validation that a sweep searches by; None: the trained task's primary metric.
    """

    special: tuple[TaskName, ...] | None = None
    general: tuple[TaskName, ...] | None = None
    tasks: dict[str, AnyTaskConfig] = Field(default_factory=dict)
    batch_size: BatchSize = "auto"
    validation: bool = True
    resamples: Annotated[int, Field(strict=True, ge=100, le=100_000)] = 2000
    objective: Annotated[str, Field(pattern=r"^\w+/\w+$")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _tasks_under_their_names(cls, values: Any) -> Any:
        tasks = values.get("tasks") if isinstance(values, Mapping) else None
        for key, task in (tasks if isinstance(tasks, Mapping) else {}).items():
            name = task.get("name", key) if isinstance(task, Mapping) else key
            if name != key and name in task_names():
                raise ValueError(f"tasks.{key}.name: '{name}' is another task; write its settings as eval.tasks.{name}")
        return values


class Config(_Section):
    """One experiment, resolved and checked as far as the model's own config is not needed."""

    model: ModelConfig
    quantization: QuantizationConfig
    adapter: AdapterSpec
    task: AnyTaskConfig
    trainer: TrainerConfig
    speed: SpeedConfig = SpeedConfig()
    eval: EvalConfig
    tracking: TrackingConfig
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    resume: Literal["never", "auto"] = "never"
    resume_sweep: str | None = None
    isolate: Literal["none", "process"] = "none"
    lang: Literal["en", "ru"] = "en"
    cache_dir: str = Field(min_length=1)
    output_dir: str = Field("outputs", min_length=1)

    @model_validator(mode="after")
    def _known_tasks(self) -> Config:
        for name in (*self._special_names, *self._general_names):
            if name != self.task.name and name not in self.eval.tasks:
                raise ValueError(f"eval.tasks.{name}: is missing; eval scores this task, so give it its settings")
        return self

    @model_validator(mode="after")
    def _known_objective(self) -> Config:
        wanted = self.eval.objective
        if wanted is None:
            return self
        known = [f"{self.task.name}/{metric}" for metric in metric_names(build_task(self.task))]
        if wanted not in known:
            raise ValueError(
                f"eval.objective: '{wanted}' is not measured on validation.{nearest(wanted, known)} "
                f"Use one of: {', '.join(known)}"
            )
        if not self.eval.validation:
            raise ValueError(f"eval.objective: '{wanted}' needs the scores on validation; set eval.validation=true")
        return self

    @property
    def objective(self) -> tuple[str, str]:
        """Task and metric on validation that a sweep searches by."""
        if self.eval.objective is None:
            return self.task.name, build_task(self.task).primary
        task, _, metric = self.eval.objective.partition("/")
        return task, metric

    @property
    def _special_names(self) -> tuple[str, ...]:
        return (self.task.name,) if self.eval.special is None else self.eval.special

    @property
    def _general_names(self) -> tuple[str, ...]:
        if self.eval.general is None:
            return ("nerus",) if "terra" in self._special_names else ("terra",)
        return self.eval.general

    @property
    def special_tasks(self) -> tuple[TaskConfig, ...]:
        """Settings of the tasks that the adapter should gain on."""
        return tuple(self._task(name) for name in dict.fromkeys(self._special_names))

    @property
    def general_tasks(self) -> tuple[TaskConfig, ...]:
        """Settings of the tasks that show forgetting; a special task is never one of them."""
        names = [name for name in dict.fromkeys(self._general_names) if name not in self._special_names]
        return tuple(map(self._task, names))

    def _task(self, name: str) -> TaskConfig:
        return self.task if name == self.task.name else self.eval.tasks[name]

    def identity(self) -> dict[str, Any]:
        """The plain values that decide a run's numbers."""
        values = self.model_dump(mode="json", exclude=set(NOT_IDENTITY))
        del values["eval"]["objective"], values["quantization"]["keep"]
        del values["speed"]["cache_gb"], values["trainer"]["compile"]
        values["eval"]["tasks"] = {
            task.name: task.model_dump(mode="json") for task in (*self.special_tasks, *self.general_tasks)
        }
        return values

    @property
    def sha256(self) -> str:
        """Identity of the configuration: runs with equal hashes compute the same numbers."""
        text = json.dumps(self.identity(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def parse_config(values: Mapping[str, Any]) -> Config:
    """Check the composed YAML.

    Raises:
        UserError: with one line for every fault: the key, the value, what is allowed.
    """
    given, missing = _without_missing(values)
    faults = [f"{key}: is missing; give it a value ({key}=...)." for key in missing]
    try:
        config = Config.model_validate(given)
    except ValidationError as error:
        faults += [fault for fault in faults_of(error, Config) if fault not in faults]
        raise UserError(*faults) from error
    if faults:
        raise UserError(*faults)
    return config


def _without_missing(values: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    """``values`` without those that still have to be given, and the dotted keys of these."""
    given: dict[str, Any] = {}
    missing: list[str] = []
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            given[name], inner = _without_missing(value, f"{key}.")
            missing += inner
        elif value == _MISSING:
            missing.append(key)
        else:
            given[name] = value
    return given, missing
