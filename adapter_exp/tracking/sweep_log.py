"""A sweep in MLflow: one parent run that its jobs' runs are filed under, and a page that shows what varies.

As in ``mlflow_log``, an explicit client and run id are used throughout, so the environment cannot send it elsewhere.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from adapter_exp.sweep.arguments import SWEEP_FILE, maximises
from adapter_exp.sweep.ledger import LEDGER_FILE, JobEntry
from adapter_exp.sweep.plan import axes_of
from adapter_exp.sweep.rows import told_counts
from adapter_exp.tracking import contents, store, sweep_contents, sweep_page
from adapter_exp.tracking.contents import Point
from adapter_exp.tracking.mlflow_log import log_points, note_parent, one_line, reopen_run
from adapter_exp.tracking.specs import TrackingConfig, resolve_uri
from adapter_exp.tracking.sweep_contents import Child

Status = Literal["FINISHED", "FAILED", "KILLED"]

SWEEP_TAG = "adapter_exp.sweep"
TABLE_FILE = "summary.json"
COMPARISON_FOLDER = "comparison"
ARTIFACTS = (LEDGER_FILE, SWEEP_FILE, COMPARISON_FOLDER)

logger = logging.getLogger(__name__)


class ParentRun:
    """MLflow's run of a whole sweep; made by ``open_parent``.

    A tracker that cannot be reached never ends a sweep: ``reason`` says why nothing is logged, one warning is logged,
    and ``finish`` does nothing. ``python -m adapter_exp.tracking.replay FOLDER`` can log the sweep later.
    """

    def __init__(self, config: TrackingConfig, name: str, overrides: Sequence[str], axes: Sequence[str]) -> None:
        self._config = config
        self._name = name
        self._overrides = tuple(overrides)
        self._axes = tuple(axes)
        self._client: Any = None
        self.run_id: str | None = None
        self.reason: str | None = None

    def finish(self, *, status: Status, sweep_dir: Path, jobs: Sequence[JobEntry]) -> None:
        """Log what became of the sweep and close its run; a sweep that goes on later opens it again.

        Args:
            sweep_dir: the sweep's folder, with its ledger, its runs and ``comparison/``.
            jobs: as the ledger has them.
        """
        if self.run_id is None:
            return
        try:
            with store.short_timeouts():
                self._client.get_run(self.run_id)  # a server that is gone costs seconds here, not a retry per call
            complete_parent(
                self._client,
                self.run_id,
                name=self._name,
                overrides=self._overrides,
                axes=self._axes or tuple(axes_of([job.overrides for job in jobs])),
                status=status,
                sweep_dir=sweep_dir,
                jobs=jobs,
                artifacts=self._config.artifacts,
            )
        except store.tracker_faults() as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Go on without MLflow, and say so once."""
        self.run_id, self.reason = None, one_line(error)
        logger.warning("MLflow is not available, the sweep goes on without its parent run: %s", self.reason)


def open_parent(
    config: TrackingConfig,
    *,
    output_root: Path,
    name: str,
    overrides: Sequence[str],
    axes: Mapping[str, Sequence[Any]],
    go_on_with: str | None,
) -> ParentRun:
    """Start the run of a sweep in MLflow, with its axes as parameters and its page among the saved views.

    Args:
        config: the ``tracking`` group.
        output_root: folder that holds ``mlflow.db`` unless ``config.uri`` says otherwise.
        name: of the sweep.
        overrides: as they were typed.
        axes: keys that the sweep varies, dotted, with their values.
        go_on_with: MLflow's id of the run that an earlier process began; a new run is made if it is gone.
    """
    parent = ParentRun(config, name, overrides, tuple(axes))
    if config.kind == "none":
        parent.reason = "tracking.kind is none"
        return parent
    store.prepare_mlflow()
    try:
        client, experiment = store.connect(resolve_uri(config.uri, output_root), config.experiment)
        if go_on_with is not None and reopen_run(client, go_on_with):
            run_id = go_on_with
        else:
            run_id = create_parent(client, experiment, name=name, overrides=overrides, axes=axes)
        _show_page(client, run_id, name, sweep_contents.axis_parameters(tuple(axes), []), [])
    except store.tracker_faults() as error:
        parent.give_up(error)
        return parent
    parent._client, parent.run_id = client, run_id
    return parent


def create_parent(
    client: Any, experiment_id: str, *, name: str, overrides: Sequence[str], axes: Mapping[str, Sequence[Any]]
) -> str:
    """Make the run of a sweep, named like it; returns MLflow's id."""
    tags = {
        SWEEP_TAG: name,
        "mlflow.source.name": "adapter_exp",
        "mlflow.note.content": sweep_contents.description(name, overrides, [], [], None),
    }
    run = client.create_run(experiment_id, start_time=int(time.time() * 1000), tags=tags, run_name=name)
    run_id = str(run.info.run_id)
    values = {f"sweep.{axis.lstrip('+~')}": ", ".join(map(str, found)) for axis, found in axes.items()}
    safe = contents.safe_names(values)
    for key, value in values.items():
        client.log_param(run_id, safe[key], value[: contents.MAX_PARAMETER])
    return run_id


def find_parent(client: Any, experiment_id: str, name: str, known_id: str | None) -> str | None:
    """MLflow's id of a sweep's run, by the id that its folder holds or else by its name; None when it has none."""
    quoted = name.replace("'", "''")
    for run in client.search_runs([experiment_id], f"tags.`{SWEEP_TAG}` = '{quoted}'", max_results=100):
        if known_id in (None, run.info.run_id):
            return str(run.info.run_id)
    return find_parent(client, experiment_id, name, None) if known_id is not None else None


def complete_parent(
    client: Any,
    run_id: str,
    *,
    name: str,
    overrides: Sequence[str],
    axes: Sequence[str],
    status: str,
    sweep_dir: Path,
    jobs: Sequence[JobEntry],
    artifacts: bool,
) -> None:
    """Log all that a sweep's folder tells and close its run: the end of a live sweep and a replay are this function.

    Runs of the sweep that are filed elsewhere, because it had no parent when they began, are filed under it.
    """
    children = sweep_contents.read_children(sweep_dir, jobs)
    parameters = sweep_contents.axis_parameters(axes, children)
    _adopt(client, run_id, children)
    link = _show_page(client, run_id, name, parameters, sweep_contents.headline_metrics(children))
    closed_ms = int(time.time() * 1000)
    maximise = maximises(sweep_dir)
    values = sweep_contents.metrics(jobs, maximise=maximise)
    log_points(client, run_id, [Point(key, 0, value, closed_ms) for key, value in values.items()])
    text = sweep_contents.description(name, overrides, children, parameters, link, maximise=maximise)
    client.set_tag(run_id, "mlflow.note.content", text)
    client.set_tag(run_id, "status", told_counts(jobs))
    _log_table(client, run_id, sweep_contents.summary_table(children, parameters))
    if artifacts:
        _log_artifacts(client, run_id, sweep_dir)
    client.set_tag(run_id, contents.COMPLETE_TAG, "true")
    client.set_terminated(run_id, status=status, end_time=closed_ms)


def _show_page(client: Any, run_id: str, name: str, parameters: Sequence[str], metrics: Sequence[str]) -> str:
    experiment = str(client.get_run(run_id).info.experiment_id)
    return sweep_page.save_view(
        client, experiment, name=name, parent_run_id=run_id, parameters=parameters, metrics=metrics
    )


def _adopt(client: Any, run_id: str, children: Sequence[Child]) -> None:
    from mlflow.exceptions import MlflowException

    for child in children:
        if child.record is None or child.run_id is None:
            continue
        if child.record.data["tracking"]["mlflow"].get("parent_run_id") == run_id:
            continue
        try:
            client.set_tag(child.run_id, contents.PARENT_TAG, run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":  # it was logged into another store, or deleted
                raise
            continue
        note_parent(child.record, run_id)


def _log_table(client: Any, run_id: str, table: Mapping[str, Any]) -> None:
    # Not client.log_table, which adds its rows to those of the run's last end.
    client.log_text(run_id, json.dumps(table, ensure_ascii=False), TABLE_FILE)
    client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps([{"path": TABLE_FILE, "type": "table"}]))


def _log_artifacts(client: Any, run_id: str, sweep_dir: Path) -> None:
    for name in ARTIFACTS:
        path = sweep_dir / name
        if path.is_dir():
            client.log_artifacts(run_id, str(path), artifact_path=name)
        elif path.is_file():
            client.log_artifact(run_id, str(path))
