"""The run's truth: ``record.json`` in its folder. MLflow, tables and plots are views of it."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from adapter_exp.errors import UserError
from adapter_exp.files import write_json_atomic, write_text_atomic
from adapter_exp.tracking.environment import git_state, host_hardware, package_versions
from adapter_exp.tracking.schema import SCHEMA_VERSION, RecordSchema

RECORD_FILE = "record.json"
ERROR_FILE = "error.txt"

_MAPPINGS = ("host", "tasks", "model", "data", "training", "evaluation", "validation", "resources", "tracking")
_LISTS = ("gates",)

RecordData = dict[str, Any]
"""A record as it stands in the file; its keys are those of ``schema.RecordSchema``."""


class RunRecord:
    """Writes a run's record, phase by phase.

    The file is whole at every moment: each change is checked against the schema, then replaces the file atomically.
    JSON has no NaN or infinity: such a number is stored as null, and its key is listed under ``non_finite``.
    """

    def __init__(self, run_dir: Path, data: RecordData) -> None:
        self.run_dir = run_dir
        self._data = data

    @classmethod
    def create(cls, run_dir: Path, *, run_id: str, config: Mapping[str, Any], config_hash: str, seed: int) -> RunRecord:
        """Start the record of a run, with status ``running``, and write it; makes ``run_dir`` if need be."""
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / ERROR_FILE).unlink(missing_ok=True)  # of an earlier attempt in this folder
        record = cls(
            run_dir,
            {
                "schema_version": SCHEMA_VERSION,
                "run_id": run_id,
                "status": "running",
                "config": _plain(config, "config", []),
                "config_hash": config_hash,
                "seed": seed,
                "started_at": _now(),
                "finished_at": None,
                "versions": package_versions(),
                "git": git_state(),
                **{section: {} for section in _MAPPINGS},
                **{section: [] for section in _LISTS},
                "host": host_hardware(),
                "tracking": {"mlflow": {"logged": False, "run_id": None, "reason": "not opened"}},
                "error": None,
                "non_finite": [],
            },
        )
        record._write(record._data)
        return record

    @classmethod
    def load(cls, run_dir: Path) -> RunRecord:
        """Take up the record of an earlier run; raises as ``load_record`` does."""
        return cls(run_dir, load_record(run_dir))

    @property
    def data(self) -> RecordData:
        """The record as it stands in the file. Change it through the methods only."""
        return self._data

    def update(self, section: str, values: Mapping[str, Any] | Sequence[Any]) -> None:
        """Merge ``values`` one level deep into a section (the list ``gates`` is replaced) and write the file.

        Raises:
            ValueError: for a section that does not exist, or values that break the schema; nothing is written.
        """
        if section not in _MAPPINGS + _LISTS:
            raise ValueError(f"record section {section!r} does not exist; known: {', '.join(_MAPPINGS + _LISTS)}")
        found: list[str] = []
        plain = _plain(values, section, found)
        replaced = (section,) if section in _LISTS else tuple(f"{section}.{key}" for key in plain)
        merged = plain if section in _LISTS else {**self._data[section], **plain}
        kept = [path for path in self._data["non_finite"] if not _below(path, replaced)]
        self._write({**self._data, section: merged, "non_finite": kept + found})

    def finish(self, status: Literal["ok", "failed", "oom", "cancelled"]) -> None:
        """Close the record.

        Raises:
            ValueError: when ``ok`` is claimed and a key that tools rely on is missing.
        """
        self._write({**self._data, "status": status, "finished_at": _now()})

    def fail(self, error: BaseException, status: Literal["failed", "oom", "cancelled"] = "failed") -> None:
        """Close the record with the error's type, message and traceback, also written to ``error.txt``."""
        text = "".join(traceback.format_exception(error))
        write_text_atomic(self.run_dir / ERROR_FILE, text)
        entry = {"type": type(error).__name__, "message": str(error), "traceback": text}
        self._write({**self._data, "error": entry, "status": status, "finished_at": _now()})

    def _write(self, data: RecordData) -> None:
        RecordSchema.model_validate(data)
        write_json_atomic(self.run_dir / RECORD_FILE, data)
        self._data = data


def load_record(run_dir: Path) -> RecordData:
    """Read and check the record in ``run_dir``.

    Raises:
        UserError: when there is none, or it is cut short, of another schema version, or lacks a key; one line.
    """
    file = run_dir / RECORD_FILE
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); name the folder of a run") from None
    except ValueError as error:
        raise UserError(f"{file}: is damaged, not JSON ({error}); run the experiment again") from None
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(f"{file}: schema_version is {version!r}, this version reads {SCHEMA_VERSION} only")
    try:
        RecordSchema.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "record"
        raise UserError(f"{file}: {key}: {first['msg']}; the record was not written by this program") from None
    return dict(data)


def _plain(value: Any, path: str, non_finite: list[str]) -> Any:
    """JSON-ready copy of ``value``; keys of numbers that are not finite are added to ``non_finite``."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{path}.{key}", non_finite) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [_plain(item, f"{path}.{position}", non_finite) for position, item in enumerate(items)]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # NumPy scalars; np.float64 is a float too, but np.float32 is not
        return _plain(value.item(), path, non_finite)
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        non_finite.append(path)
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return _plain({field.name: getattr(value, field.name) for field in fields(value)}, path, non_finite)
    raise ValueError(f"record {path}: {type(value).__name__} is not a value that JSON can hold")


def _below(path: str, prefixes: Sequence[str]) -> bool:
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
