"""The command line of a sweep that goes on: its folder holds the arguments it was started with."""

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
    """``arguments`` as Hydra should read them: a sweep even without ``-m``, and the former ones if none are given.

    Raises:
        UserError: when ``resume_sweep`` names no sweep.
    """
    folder = Path(next(value for value in arguments if value.startswith(_KEY)).removeprefix(_KEY))
    if str(folder) in ("null", "."):
        return list(arguments)
    former = read_sweep(folder)["arguments"]
    others = [value for value in arguments if not value.startswith(_KEY) and value not in _MULTIRUN]
    if not others:
        others = [value for value in former if not value.startswith(_KEY) and value not in _MULTIRUN]
    return ["-m", *others, f"{_KEY}{folder}"]


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
    return dict(values)
