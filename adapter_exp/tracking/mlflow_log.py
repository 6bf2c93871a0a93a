"""A run in MLflow: opened with the record, fed losses while it trains, completed from the record at the end.

Everything goes through an explicit client and run id, never through MLflow's "active run", so ``MLFLOW_RUN_ID``,
``MLFLOW_TRACKING_URI`` and the like in the environment cannot send a run elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

from adapter_exp.tracking import contents, store
from adapter_exp.tracking.buffer import Buffer
from adapter_exp.tracking.contents import Point
from adapter_exp.tracking.record import RECORD_FILE, RecordData, RunRecord
from adapter_exp.tracking.specs import TrackingConfig, resolve_uri

PARAMETERS_PER_CALL = 100
METRICS_PER_CALL = 1000
ARTIFACTS = ("error.txt", "predictions", "adapter", "plots", ".hydra/config.yaml")

logger = logging.getLogger(__name__)
T = TypeVar("T")


class MlflowRun:
    """The live copy of one run in MLflow.

    A tracker that cannot be reached never ends a run: ``reason`` says why nothing is logged (also in the record, under
    ``tracking.mlflow``), one warning is logged, and every method becomes a no-op. ``replay`` can log the record later.
    """

    def __init__(self, record: RunRecord, config: TrackingConfig) -> None:
        self._record = record
        self._config = config
        self._client: Any = None
        self._run_id: str | None = None
        self._buffer: Buffer[Point] | None = None
        self._monitor: Any = None
        self._sent: set[tuple[str, int]] = set()  # (curve, step) that an earlier process has logged
        self.reason: str | None = None

    @classmethod
    def open(
        cls,
        record: RunRecord,
        config: TrackingConfig,
        *,
        output_root: Path,
        go_on_with: str | None = None,
        parent_run_id: str | None = None,
    ) -> MlflowRun:
        """Start the run in MLflow, with its configuration as parameters and live system metrics.

        Args:
            record: the run's record, already on disk.
            config: the ``tracking`` group.
            output_root: folder that holds ``mlflow.db`` and ``mlartifacts`` unless ``config.uri`` says otherwise.
            go_on_with: MLflow's id of the run that an earlier process began; a new run is made if it is gone.
            parent_run_id: MLflow's id of the sweep's run that this run is a part of; kept in the record too.
        """
        run = cls(record, config)
        if parent_run_id is not None:
            note_parent(record, parent_run_id)
        if config.kind == "none":
            run._note("tracking.kind is none")
            return run
        store.prepare_mlflow()
        uri = resolve_uri(config.uri, output_root)
        try:
            run._client, experiment = store.connect(uri, config.experiment)
            if go_on_with is not None and reopen_run(run._client, go_on_with):
                run._run_id, run._sent = go_on_with, _known_points(run._client, go_on_with, contents.LIVE)
                if parent_run_id is not None:
                    run._client.set_tag(go_on_with, contents.PARENT_TAG, parent_run_id)
            else:
                run._run_id = create_run(run._client, experiment, record.data)
        except store.tracker_faults() as error:
            run._give_up(error)
            return run
        run._buffer = Buffer(run._send, faults=store.tracker_faults())
        if config.log_system_metrics:
            run._monitor = _start_monitor(run._run_id, uri)
        run._note("still running")
        return run

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run; None when there is none."""
        return self._run_id

    def log_loss(self, step: int, loss: float) -> None:
        """Show a training loss; returns at once, the value is sent within seconds by another thread."""
        self._add(contents.TRAINING_LOSS, step, loss)

    def log_validation_loss(self, step: int, loss: float) -> None:
        """Show a validation loss, as ``log_loss`` does."""
        self._add(contents.VALIDATION_LOSS, step, loss)

    def finish(self) -> None:
        """Complete the run from its record, which must be closed by now, and close it in MLflow."""
        if self._run_id is None:
            return
        if self._monitor is not None:
            self._monitor.finish()
        if self._buffer is not None:
            self._buffer.close()
        try:
            with store.short_timeouts():
                self._client.get_run(self._run_id)  # a server that is gone costs seconds here, not a retry per call
            complete_run(self._client, self._run_id, self._record, artifacts=self._config.artifacts)
        except store.tracker_faults() as error:
            self._give_up(error)

    def _add(self, name: str, step: int, value: float) -> None:
        if self._buffer is not None and math.isfinite(value) and (name, step) not in self._sent:
            self._buffer.add(Point(name, step, float(value), int(time.time() * 1000)))

    def _send(self, points: Sequence[Point]) -> None:
        log_points(self._client, str(self._run_id), points)

    def _note(self, reason: str) -> None:
        note_tracking(self._record, logged=False, run_id=self._run_id, reason=reason)
        self.reason = None if self._run_id else reason

    def _give_up(self, error: Exception) -> None:
        reason = one_line(error)
        logger.warning("MLflow is not available, the run goes on without it: %s", reason)
        with contextlib.suppress(OSError):  # a full disk must not hide the reason that the run ends for
            note_tracking(self._record, logged=False, run_id=self._run_id, reason=reason)
        self._run_id = None
        self.reason = reason


def create_run(client: Any, experiment_id: str, record: RecordData) -> str:
    """Make the run in MLflow, named like its folder, with parameters and tags; returns MLflow's id."""
    started_ms = contents.milliseconds(record["started_at"])
    run = client.create_run(experiment_id, start_time=started_ms, tags=contents.tags(record), run_name=record["run_id"])
    run_id = str(run.info.run_id)
    _log_parameters(client, run_id, record)
    return run_id


def reopen_run(client: Any, run_id: str) -> bool:
    """Mark a run as running again; False when MLflow no longer has it."""
    from mlflow.exceptions import MlflowException

    try:
        known = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    if known.info.lifecycle_stage != "active":
        return False
    client.update_run(run_id, status="RUNNING")
    if contents.COMPLETE_TAG in known.data.tags:
        client.delete_tag(run_id, contents.COMPLETE_TAG)
    return True


def complete_run(client: Any, run_id: str, record: RunRecord, *, artifacts: bool) -> None:
    """Log all that the record holds and close the run: the end of a live run and a replay are this same function.

    Calling it again changes nothing: parameters and metrics keep their values and time stamps, and only the points of
    a curve that are missing are added.
    """
    from mlflow.entities import RunTag

    data = record.data
    _log_parameters(client, run_id, data)
    _log_missing_points(client, run_id, contents.curves(data))
    closed_ms = contents.milliseconds(data["finished_at"] or data["started_at"])
    log_points(client, run_id, [Point(name, 0, value, closed_ms) for name, value in contents.metrics(data).items()])
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in contents.tags(data).items()])
    _log_datasets(client, run_id, data)
    if artifacts:
        _log_artifacts(client, run_id, record.run_dir)
    note_tracking(record, logged=True, run_id=run_id, reason=None)
    if artifacts:
        client.log_artifact(run_id, str(record.run_dir / RECORD_FILE))
    client.set_tag(run_id, contents.COMPLETE_TAG, "true")
    client.set_terminated(run_id, status=contents.STATUS[data["status"]], end_time=closed_ms)


def log_points(client: Any, run_id: str, points: Sequence[Point]) -> None:
    """Log values in as few calls as MLflow allows."""
    from mlflow.entities import Metric

    for chunk in _chunks(points, METRICS_PER_CALL):
        metrics = [Metric(point.name, point.value, point.time_ms, point.step) for point in chunk]
        client.log_batch(run_id, metrics=metrics)


def note_tracking(record: RunRecord, *, logged: bool, run_id: str | None, reason: str | None) -> None:
    """Write into the record whether MLflow has the run, under which id, or why not; a parent's id stays."""
    parent = {key: value for key, value in record.data["tracking"]["mlflow"].items() if key == "parent_run_id"}
    record.update("tracking", {"mlflow": {"logged": logged, "run_id": run_id, "reason": reason, **parent}})


def note_parent(record: RunRecord, parent_run_id: str) -> None:
    """Write into the record which of MLflow's runs is its parent."""
    record.update("tracking", {"mlflow": {**record.data["tracking"]["mlflow"], "parent_run_id": parent_run_id}})


def one_line(error: Exception) -> str:
    """An error's type and first line, short enough for a note."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:200]}"


def _log_parameters(client: Any, run_id: str, record: RecordData) -> None:
    from mlflow.entities import Param

    # MLflow refuses to change a parameter, and the command that resumes a run differs in ``resume`` at least.
    known = client.get_run(run_id).data.params
    new = [(key, value) for key, value in contents.parameters(record).items() if key not in known]
    for chunk in _chunks(new, PARAMETERS_PER_CALL):
        client.log_batch(run_id, params=[Param(key, value) for key, value in chunk])


def _log_missing_points(client: Any, run_id: str, points: Sequence[Point]) -> None:
    known = _known_points(client, run_id, {point.name for point in points})
    log_points(client, run_id, [point for point in points if (point.name, point.step) not in known])


def _known_points(client: Any, run_id: str, names: Collection[str]) -> set[tuple[str, int]]:
    return {(name, metric.step) for name in names for metric in client.get_metric_history(run_id, name)}


def _log_datasets(client: Any, run_id: str, record: RecordData) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.exceptions import MlflowException

    inputs = [
        DatasetInput(
            Dataset(entry.name, entry.digest, source_type="code", source="{}", profile=entry.profile),
            [InputTag("mlflow.data.context", entry.split)],
        )
        for entry in contents.datasets(record)
    ]
    # MLflow looks for a data set and then inserts it: where another run does the same in between, the insert fails.
    # Each such failure leaves at least one data set fewer to insert.
    for others in range(len(inputs), -1, -1):
        try:
            client.log_inputs(run_id, inputs)
            return
        except MlflowException:
            if not others:
                raise


def _log_artifacts(client: Any, run_id: str, run_dir: Path) -> None:
    for name in ARTIFACTS:
        path = run_dir / name
        if path.is_dir():
            client.log_artifacts(run_id, str(path), artifact_path=name)
        elif path.is_file():
            client.log_artifact(run_id, str(path))


def _start_monitor(run_id: str, uri: str) -> Any:
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, tracking_uri=uri)
    monitor.start()
    return monitor


def _chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
