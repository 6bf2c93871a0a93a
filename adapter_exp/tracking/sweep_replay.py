"""Log a recorded sweep into MLflow later; the command is ``python -m adapter_exp.tracking.replay FOLDER``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from adapter_exp.errors import UserError
from adapter_exp.files import write_json_atomic
from adapter_exp.resume import is_free, locked
from adapter_exp.sweep.arguments import SWEEP_FILE, read_sweep
from adapter_exp.sweep.ledger import LEDGER_FILE, Ledger
from adapter_exp.sweep.plan import axes_of
from adapter_exp.tracking import store, sweep_contents
from adapter_exp.tracking.mlflow_log import note_parent, one_line
from adapter_exp.tracking.record import RECORD_FILE, RunRecord
from adapter_exp.tracking.replay import replay, told
from adapter_exp.tracking.specs import TrackingConfig, resolve_uri
from adapter_exp.tracking.sweep_log import complete_parent, create_parent, find_parent


def is_sweep(folder: Path) -> bool:
    """Whether ``folder`` is that of a sweep and not of a run."""
    return (folder / LEDGER_FILE).is_file() and not (folder / RECORD_FILE).exists()


def runs_of(folder: Path) -> list[RunRecord]:
    """The records of a sweep's runs; a job that has left none, or a damaged one, has nothing to log."""
    children = sweep_contents.read_children(folder, Ledger(folder).jobs())
    return [child.record for child in children if child.record is not None]


def replay_sweep(
    folder: Path, records: Sequence[RunRecord], config: TrackingConfig, *, output_root: Path
) -> Iterator[str]:
    """Log a sweep: its parent run is found or made, its runs are filed under it, and the parent is completed.

    Args:
        records: of its runs, see ``runs_of``.

    Yields:
        a line on each run and one on the sweep.

    Raises:
        UserError: when a living process runs the sweep, or the tracker cannot be reached.
    """
    uri = resolve_uri(config.uri, output_root)
    try:
        with locked(folder):
            yield from _logged(folder, records, config, uri, output_root)
    except BlockingIOError as error:
        raise UserError(f"{folder}: a process is running this sweep; wait for it or stop it.") from error
    except store.tracker_faults() as error:
        raise UserError(f"tracking.uri: {uri!r} cannot be used: {one_line(error)}") from error


def _logged(
    folder: Path, records: Sequence[RunRecord], config: TrackingConfig, uri: str, output_root: Path
) -> Iterator[str]:
    jobs, sweep = Ledger(folder).jobs(), _sweep(folder)
    axes = axes_of([job.overrides for job in jobs])
    client, experiment = store.connect(uri, config.experiment)
    name = sweep.get("name") or folder.absolute().name
    parent = find_parent(client, experiment, name, sweep["mlflow"]["parent_run_id"])
    if parent is None:
        parent = create_parent(client, experiment, name=name, overrides=sweep["overrides"], axes=axes)
    for record in records:
        if record.data["status"] == "running" and not is_free(record.run_dir):
            yield f"{record.run_dir}: is still running, passed over"
            continue
        note_parent(record, parent)
        yield told(record, *replay(record, config, output_root=output_root))
    if "name" in sweep:
        values = {**sweep, "mlflow": {"parent_run_id": parent, "reason": None}}
        write_json_atomic(folder / SWEEP_FILE, values)
    complete_parent(
        client,
        parent,
        name=name,
        overrides=sweep["overrides"],
        axes=tuple(axes),
        status=sweep_contents.status(jobs),
        sweep_dir=folder,
        jobs=jobs,
        artifacts=config.artifacts,
    )
    yield f"{folder}: sweep of {len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} logged as {parent}"


def _sweep(folder: Path) -> dict[str, Any]:
    """``sweep.json``, or the little that is needed when it is missing or damaged: the runs are worth logging."""
    try:
        sweep = read_sweep(folder)
    except UserError:
        sweep = {}
    return {"overrides": [], "mlflow": {"parent_run_id": None}} | sweep
