"""Opens MLflow's store: a SQLite file that is created once, under a lock, or a server that may be away."""

from __future__ import annotations

import importlib
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from adapter_exp.models.quiet import hidden, uncollected
from adapter_exp.tracking.specs import SQLITE, sqlite_file

OPENING_TIMEOUT_S = 5
LOCK_TIMEOUT_S = 300
# Without it MLflow 3 opens the experiment on its page of language-model traces, which is empty here.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
SQLITE_HEADER = b"SQLite format 3\0"
ARTIFACT_FOLDER = "mlartifacts"


def prepare_mlflow() -> None:
    """Import MLflow, with settings that must stand before; values the user has set stay."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    # MLflow's own 7 retries with doubling pauses hold a run up for minutes when its server is gone.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # one line per migration when a database is made
    # Without pandas MLflow leaves out its readers of tables, which are not used here and take seconds to import.
    with uncollected(), hidden("pandas", "pyarrow"):
        importlib.import_module("mlflow.tracking")


def tracker_faults() -> tuple[type[Exception], ...]:
    """What a tracker that is away, full, locked or damaged raises; a run goes on without it."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError, sqlite3.Error, OSError)  # requests' errors are OSErrors


def connect(uri: str, experiment: str) -> tuple[Any, str]:
    """Open the store at ``uri`` (absolute, see ``specs.resolve_uri``) and find or make the experiment.

    Returns:
        MLflow's client and the experiment's id.

    Raises:
        one of ``tracker_faults()``: when the store cannot be opened.
    """
    prepare_mlflow()
    if not uri.startswith(SQLITE):
        with short_timeouts():
            return _client_and_experiment(uri, experiment, artifacts=None)
    with _locked_database(uri) as database:
        return _client_and_experiment(uri, experiment, artifacts=database.parent / ARTIFACT_FOLDER)


def ensure_database(uri: str) -> None:
    """Make the SQLite file and MLflow's tables in it when they are missing.

    Raises:
        sqlite3.Error, OSError: when the file is no database or cannot be written.
    """
    prepare_mlflow()
    with _locked_database(uri):
        pass


@contextmanager
def _locked_database(uri: str) -> Iterator[Path]:
    """Hold the database's lock, with its tables made.

    Eight processes that made the tables at once destroyed the file.
    """
    from filelock import FileLock

    database = sqlite_file(uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(f".{database.name}.lock"), timeout=LOCK_TIMEOUT_S):
        _make_tables(uri, database)
        yield database


def _make_tables(uri: str, database: Path) -> None:
    _check_database(database)
    with uncollected(), hidden("pandas", "pyarrow"):
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(uri, (database.parent / ARTIFACT_FOLDER).as_uri())


def _check_database(database: Path) -> None:
    """Fail at once on a file that is no database: SQLite overwrites a short one, MLflow retries for two minutes."""
    if database.is_file() and database.stat().st_size:
        with database.open("rb") as file:
            if file.read(len(SQLITE_HEADER)) != SQLITE_HEADER:
                raise sqlite3.DatabaseError("file is not a database")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA schema_version")


@contextmanager
def short_timeouts() -> Iterator[None]:
    """A server gets a few seconds, and one try, to answer the calls in this block."""
    changes = {"MLFLOW_HTTP_REQUEST_TIMEOUT": str(OPENING_TIMEOUT_S), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    before = {name: os.environ[name] for name in changes}  # prepare_mlflow has set both
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.update(before)


def _client_and_experiment(uri: str, experiment: str, artifacts: Path | None) -> tuple[Any, str]:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        return client, str(found.experiment_id)
    folder = re.sub(r"[^\w.-]", "_", experiment)
    location = None if artifacts is None else (artifacts / folder).as_uri()
    try:
        return client, str(client.create_experiment(experiment, artifact_location=location, tags=EXPERIMENT_TAGS))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        # Another run made it on the server between the two calls.
        return client, str(client.get_experiment_by_name(experiment).experiment_id)
