"""The end of a job whose process is gone: its record and its MLflow run are closed for it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Literal

from adapter_exp.config import Config
from adapter_exp.errors import UserError
from adapter_exp.tracking.record import RunRecord


class JobProcessDied(RuntimeError):
    """The process of a job ended without closing the job's record."""


def close_dead(config: Config, run_dir: Path, why: str, status: Literal["failed", "oom", "cancelled"]) -> None:
    """Say in the record and in MLflow how the job in ``run_dir`` ended, since it could not say so itself.

    A process that died before it had begun its record is told in that of an earlier attempt, or in a new one.
    """
    try:
        record = RunRecord.load(run_dir)
    except UserError:
        record = RunRecord.create(
            run_dir,
            run_id=f"{run_dir.parent.name}-{run_dir.name}",
            config=config.model_dump(mode="json"),
            config_hash=config.sha256,
            seed=config.seed,
        )
    record.fail(JobProcessDied(why), status=status)
    _close_in_mlflow(record)


def _close_in_mlflow(record: RunRecord) -> None:
    from adapter_exp.tracking.replay import replay
    from adapter_exp.tracking.specs import TrackingConfig

    config = TrackingConfig.model_validate(record.data["config"]["tracking"])
    if config.kind == "mlflow":
        with contextlib.suppress(UserError):  # a tracker that is away never ends a sweep; replay can log it later
            replay(record, config, output_root=Path(record.data["config"]["output_dir"]))
