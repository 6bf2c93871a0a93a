"""What `record.json` must hold: strict on the keys that tools read, open to additions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 1

Status = Literal["running", "ok", "failed", "oom", "cancelled"]


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class IntervalEntry(_Open):
    """A number with its 95 % interval; null where it was not finite."""

    value: float | None
    low: float | None
    high: float | None


Metrics = dict[str, dict[str, IntervalEntry]]
"""task -> metric -> interval"""


class TaskEntry(_Open):
    """How reports treat a task: ``primary`` leads the tables; ``role`` tells gain from forgetting."""

    primary: str
    role: Literal["special", "general"]


class Evaluation(_Open):
    """Results on test; ``change`` is adapted minus base, paired by item; ``baseline`` is a trivial answer's score."""

    base: Metrics = {}
    adapted: Metrics = {}
    change: Metrics = {}
    baseline: Metrics = {}


class Validation(_Open):
    """Results on validation, which selection reads."""

    adapted: Metrics = {}


class GateEntry(_Open):
    """A check that can withhold the claims on one task (``task`` null: on all)."""

    name: str
    passed: bool
    reason: str
    task: str | None = None
    model: str | None = None


class LossPoint(_Open):
    """Loss at an optimizer step; null where it was not finite."""

    step: int
    loss: float | None


class Training(_Open):
    """What training did; empty for runs that do not train."""

    loss: list[LossPoint] = []
    validation_loss: list[LossPoint] = []


class Model(_Open):
    """The base model and the size of what was trained on it."""

    trainable_parameters: int | None = None
    total_parameters: int | None = None


class Resources(_Open):
    """What the run cost."""

    peak_rss_bytes: int | None = None
    wall_s: float | None = None
    phases_s: dict[str, float] = {}


class ErrorEntry(_Open):
    """Why a run did not end well."""

    type: str
    message: str
    traceback: str


class RecordSchema(_Open):
    """Schema 1 of a run's record."""

    schema_version: Literal[1]
    run_id: str = Field(min_length=1)
    status: Status
    config: dict[str, Any]
    config_hash: str
    seed: int
    started_at: str
    finished_at: str | None
    versions: dict[str, str | None]
    git: dict[str, Any] | None
    host: dict[str, Any]
    tasks: dict[str, TaskEntry]
    model: Model
    data: dict[str, dict[str, Any]]
    training: Training
    evaluation: Evaluation
    validation: Validation
    gates: list[GateEntry]
    resources: Resources
    tracking: dict[str, Any]
    error: ErrorEntry | None
    non_finite: list[str]
    imported: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _complete_when_ok(self) -> RecordSchema:
        if self.status == "ok" and self.imported is None:  # figures from elsewhere say what they say
            needed = {
                "model.trainable_parameters": self.model.trainable_parameters,
                "resources.peak_rss_bytes": self.resources.peak_rss_bytes,
                "resources.wall_s": self.resources.wall_s,
            }
            missing = [key for key, value in needed.items() if value is None]
            if missing:
                raise ValueError(f"status is ok, but {', '.join(missing)} is missing")
        return self
