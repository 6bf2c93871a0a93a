"""Sweeps of the tiny model in this process, below a temporary folder."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from experiment_samples import overrides, record

from adapter_exp import run as entrypoint
from adapter_exp.sweep.ledger import JobEntry, Ledger


@dataclass(frozen=True)
class Swept:
    """What a sweep's command line left behind."""

    folder: Path
    exit_code: int
    output: str
    errors: str

    @property
    def jobs(self) -> list[JobEntry]:
        return Ledger(self.folder).jobs()

    def record(self, number: int) -> dict[str, Any]:
        return record(self.folder / str(number))


def sweep(root: Path, *more: str, monkeypatch: pytest.MonkeyPatch, folder: str = "sweep") -> Swept:
    """Run the small experiment as a sweep, as its command line does."""
    path = root / folder
    arguments = ["-m", *overrides(root, *more)]
    if not any(argument.startswith("resume_sweep=") for argument in more):
        arguments.append(f"hydra.sweep.dir={path}")
    return command(arguments, path, monkeypatch)


def command(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Swept:
    """Run ``adapter_exp.run`` with these arguments in this process."""
    monkeypatch.setattr(sys, "argv", ["adapter_exp.run", *arguments])
    output, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(output), redirect_stderr(errors), pytest.raises(SystemExit) as ended:
        entrypoint.main()
    return Swept(folder, int(ended.value.code or 0), output.getvalue(), errors.getvalue())


def numbers(data: dict[str, Any]) -> dict[str, Any]:
    """What two runs of one configuration must agree on."""
    return {
        "losses": (data["training"]["loss"], data["training"]["validation_loss"]),
        "evaluation": {label: data["evaluation"][label] for label in ("base", "adapted", "change", "baseline")},
        "validation": data["validation"],
    }
