"""Browse the runs: ``python -m adapter_exp.tracking.ui`` serves MLflow's page on this machine only."""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from adapter_exp.tracking import store, sweep_page
from adapter_exp.tracking.specs import resolve_uri, sqlite_file

NEWEST_SWEEPS = 5


def server_command(root: Path, port: int) -> list[str]:
    """Command that serves the runs below ``root`` on the loopback interface, with one worker."""
    artifacts = (root.absolute() / store.ARTIFACT_FOLDER).as_uri()
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", resolve_uri(None, root)),
        *("--default-artifact-root", artifacts),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
    ]


def _pages(root: Path) -> list[tuple[str, str]]:
    """Names and addresses of the pages worth opening: the table of all runs, then those of the newest sweeps."""
    with closing(sqlite3.connect(sqlite_file(resolve_uri(None, root)))) as connection:
        found = connection.execute("SELECT max(experiment_id) FROM experiments WHERE name != 'Default'").fetchone()[0]
        if not found:
            return [("all runs", "")]
        query = "SELECT key, value FROM experiment_tags WHERE experiment_id = ?"
        tags = dict(connection.execute(query, (found,)).fetchall())
    keys = sweep_page.saved_views(tags)[:NEWEST_SWEEPS]
    sweeps = [(sweep_page.view_name(tags[sweep_page.VIEW_TAG + key]), sweep_page.page(found, key)) for key in keys]
    return [("all runs", sweep_page.page(found)), *((f"sweep {name}", page) for name, page in sweeps)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the database if there is none, then become MLflow's server."""
    parser = argparse.ArgumentParser(prog="python -m adapter_exp.tracking.ui", description=__doc__)
    parser.add_argument("--port", type=int, default=5000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--root", type=Path, default=Path("outputs"), help="output root (default: %(default)s)")
    options = parser.parse_args(arguments)
    store.prepare_mlflow()
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # background job workers would take another 0.5 GB
    try:
        store.ensure_database(resolve_uri(None, options.root))
        pages = _pages(options.root)
    except (sqlite3.Error, OSError) as error:
        sys.stderr.write(f"--root: '{options.root}' holds no usable mlflow.db: {error}\n")
        sys.exit(2)
    for name, page in pages:
        sys.stdout.write(f"{name}: http://127.0.0.1:{options.port}/{page}\n")
    sys.stdout.write("Ctrl-C ends it\n")
    sys.stdout.flush()
    command = server_command(options.root, options.port)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
