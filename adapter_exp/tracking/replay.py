"""Log recorded runs and sweeps into MLflow later: ``python -m adapter_exp.tracking.replay FOLDER [FOLDER ...]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapter_exp.errors import UserError
from adapter_exp.tracking import contents, store
from adapter_exp.tracking.mlflow_log import complete_run, create_run, one_line
from adapter_exp.tracking.record import RecordData, RunRecord
from adapter_exp.tracking.specs import TrackingConfig, resolve_uri


def replay(record: RunRecord, config: TrackingConfig, *, output_root: Path) -> tuple[str, bool]:
    """Log one recorded run, unless MLflow already has it; one that was left open there is completed.

    Returns:
        MLflow's run id, and whether anything was logged now.

    Raises:
        UserError: when the tracker cannot be reached.
    """
    store.prepare_mlflow()
    uri = resolve_uri(config.uri, output_root)
    try:
        client, experiment = store.connect(uri, config.experiment)
        known = _find(client, experiment, record.data["run_id"])
        if known is not None and _complete(known, record.data):
            return str(known.info.run_id), False
        run_id = create_run(client, experiment, record.data) if known is None else str(known.info.run_id)
        complete_run(client, run_id, record, artifacts=config.artifacts)
    except store.tracker_faults() as error:
        raise UserError(f"tracking.uri: {uri!r} cannot be used: {one_line(error)}") from error
    return run_id, True


def _find(client: Any, experiment: str, run_id: str) -> Any | None:
    quoted = run_id.replace("'", "''")
    found = client.search_runs([experiment], f"tags.`{contents.RUN_ID_TAG}` = '{quoted}'", max_results=1)
    return found[0] if found else None


def _complete(run: Any, record: RecordData) -> bool:
    tags = run.data.tags
    parent = contents.tags(record).get(contents.PARENT_TAG)
    return (
        contents.COMPLETE_TAG in tags
        and run.info.status == contents.STATUS[record["status"]]
        and parent in (None, tags.get(contents.PARENT_TAG))
    )


def config_of(record: RunRecord | None, uri: str | None) -> TrackingConfig:
    """The run's own tracking settings, the usual ones without a run, with the address replaced by ``uri`` if given."""
    recorded = {} if record is None else dict(record.data["config"].get("tracking") or {})
    changes = {"kind": "mlflow", **({} if uri is None else {"uri": uri})}
    try:
        return TrackingConfig.model_validate(recorded | changes)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise UserError(f"tracking.{key}: {uri!r} {error.errors()[0]['msg']}") from None


def _root(record: RunRecord | None) -> Path:
    return Path("outputs" if record is None else record.data["config"].get("output_dir", "outputs"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 0, or 2 when a run, a sweep or the address cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m adapter_exp.tracking.replay", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="of a run or of a whole sweep")
    parser.add_argument("--uri", help="MLflow store; default: the run's own tracking.uri, or mlflow.db in --root")
    parser.add_argument("--root", type=Path, help="output root (default: the run's own output_dir)")
    options = parser.parse_args(arguments)
    try:
        # All are checked before any is logged.
        replays = [_prepared(folder, options.uri, options.root) for folder in options.folders]
        for lines in replays:
            for line in lines:
                sys.stdout.write(f"{line}\n")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _prepared(folder: Path, uri: str | None, root: Path | None) -> Iterator[str]:
    """The lines that logging ``folder`` tells, not begun yet."""
    from adapter_exp.tracking.sweep_replay import is_sweep, replay_sweep, runs_of

    if is_sweep(folder):
        records = runs_of(folder)
        first = records[0] if records else None
        config = config_of(first, uri)
        return replay_sweep(folder, records, config, output_root=root or _root(first))
    record = RunRecord.load(folder)
    return _one(record, config_of(record, uri), root or _root(record))


def _one(record: RunRecord, config: TrackingConfig, root: Path) -> Iterator[str]:
    yield told(record, *replay(record, config, output_root=root))


def told(record: RunRecord, run_id: str, logged: bool) -> str:
    """The line on one run."""
    return f"{record.run_dir}: {'logged as' if logged else 'already logged as'} {run_id}"


if __name__ == "__main__":
    sys.exit(main())
