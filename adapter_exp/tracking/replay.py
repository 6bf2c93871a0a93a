"""Log recorded runs into MLflow later: ``python -m adapter_exp.tracking.replay RUN [RUN ...]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adapter_exp.errors import UserError
from adapter_exp.tracking import contents, store
from adapter_exp.tracking.mlflow_log import complete_run, create_run, one_line
from adapter_exp.tracking.record import RunRecord
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
        if known is not None and _complete(known, record.data["status"]):
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


def _complete(run: Any, status: str) -> bool:
    return contents.COMPLETE_TAG in run.data.tags and run.info.status == contents.STATUS[status]


def _config(record: RunRecord, uri: str | None) -> TrackingConfig:
    """The run's own tracking settings, with the address replaced by ``uri`` when one is given."""
    recorded = dict(record.data["config"].get("tracking") or {})
    changes = {"kind": "mlflow", **({} if uri is None else {"uri": uri})}
    try:
        return TrackingConfig.model_validate(recorded | changes)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise UserError(f"tracking.{key}: {uri!r} {error.errors()[0]['msg']}") from None


def _root(record: RunRecord) -> Path:
    return Path(record.data["config"].get("output_dir", "outputs"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; exit code 0, or 2 when a run or the address cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m adapter_exp.tracking.replay", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, with its record.json")
    parser.add_argument("--uri", help="MLflow store; default: the run's own tracking.uri, or mlflow.db in --root")
    parser.add_argument("--root", type=Path, help="output root (default: the run's own output_dir)")
    options = parser.parse_args(arguments)
    try:
        records = [RunRecord.load(folder) for folder in options.runs]  # all are checked before any is logged
        for folder, record in zip(options.runs, records, strict=True):
            run_id, logged = replay(record, _config(record, options.uri), output_root=options.root or _root(record))
            sys.stdout.write(f"{folder}: {'logged as' if logged else 'already logged as'} {run_id}\n")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
