"""Where a run is tracked, as plain typed values; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

SQLITE = "sqlite:///"
ALLOWED = "use sqlite:////ABSOLUTE/PATH.db, http://HOST:PORT, https://HOST, or null for mlflow.db in the output root"


class TrackingConfig(BaseModel):
    """The ``tracking`` group.

    Attributes:
        kind: ``mlflow``, or ``none``: the record alone, which ``adapter_exp.tracking.replay`` can log later.
        uri: a SQLite file or an MLflow server; None is ``mlflow.db`` in the output root.
        experiment: MLflow experiment that the run is filed under.
        log_system_metrics: sample processor, memory and GPU load while the run goes on.
        artifacts: copy the record, predictions, adapter, configuration and plots into MLflow.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mlflow", "none"] = "mlflow"
    uri: str | None = None
    experiment: str = Field("adapter_exp", min_length=1)
    log_system_metrics: bool = True
    artifacts: bool = True

    @field_validator("uri")
    @classmethod
    def _known_store(cls, uri: str | None) -> str | None:
        if uri is None:
            return uri
        parts = urlsplit(uri)
        if parts.scheme in ("file", ""):
            raise ValueError(f"MLflow 3 keeps no runs in plain folders; {ALLOWED}")
        if parts.scheme == "sqlite":
            if not uri.startswith(SQLITE) or not sqlite_file(uri).name or ":memory:" in uri:
                raise ValueError(f"no database file is named; {ALLOWED}")
        elif parts.username or parts.password:
            # The address is stored in every record; MLflow reads the two variables itself.
            raise ValueError("holds a password; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead")
        elif parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"is not a store this project can open; {ALLOWED}")
        return uri


def sqlite_file(uri: str) -> Path:
    """Path of the database in a ``sqlite:///`` address, as written there (relative or absolute)."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def resolve_uri(uri: str | None, output_root: Path) -> str:
    """The tracking address a run uses: SQLite files absolute, so that the working directory does not matter."""
    if uri is None:
        return f"{SQLITE}{output_root.absolute() / 'mlflow.db'}"
    if uri.startswith(SQLITE):
        return f"{SQLITE}{sqlite_file(uri).absolute()}"
    return uri
