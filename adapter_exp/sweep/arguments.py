"""The command line of a sweep that goes on: that which it was started with, changed by what is given now."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapter_exp.errors import UserError

SWEEP_FILE = "sweep.json"
_KEY = "resume_sweep="
_MULTIRUN = ("-m", "--multirun")


def resumed_arguments(arguments: Sequence[str]) -> list[str]:
    """``arguments`` as Hydra should read them: a sweep even without ``-m``, with the former overrides that are not
    given anew.

    Raises:
        UserError: when ``resume_sweep`` names no sweep.
    """
    folder = next(value for value in arguments if value.startswith(_KEY)).removeprefix(_KEY)
    if folder == "null":
        return list(arguments)
    given = _without_own(arguments)
    keys = {_key(value) for value in given}
    former = [value for value in _without_own(read_sweep(Path(folder))["arguments"]) if _key(value) not in keys]
    return ["-m", *former, *given, f"{_KEY}{folder}"]


def _without_own(arguments: Sequence[str]) -> list[str]:
    return [value for value in arguments if not value.startswith(_KEY) and value not in _MULTIRUN]


def _key(argument: str) -> str:
    """What an override sets, whether it adds, changes or forces it."""
    return argument.split("=", 1)[0].lstrip("+~")


def read_sweep(folder: Path) -> dict[str, Any]:
    """What ``sweep.json`` in ``folder`` holds.

    Raises:
        UserError: when there is none or it is damaged.
    """
    path = folder / SWEEP_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"resume_sweep: '{folder}' is not the folder of a sweep ({path}: {error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"resume_sweep: {path} is damaged ({error}).") from error
    if not isinstance(values, dict) or not {"arguments", "mlflow"} <= values.keys():
        raise UserError(f"resume_sweep: {path} is damaged (it does not describe a sweep).")
    return values
