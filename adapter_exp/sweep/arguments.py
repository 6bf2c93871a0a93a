"""The command line of a sweep that goes on: that which it was started with, changed by what is given now."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from adapter_exp.errors import UserError

SWEEP_FILE = "sweep.json"
RESUME = "resume_sweep="
_PLACE = "hydra.sweep.dir"
_MULTIRUN = ("-m", "--multirun")


def resumed_arguments(arguments: Sequence[str]) -> list[str]:
    """``arguments`` as Hydra should read them: a sweep even without ``-m``, with the former overrides that are not
    given anew, in the folder that is named now, wherever the sweep was begun.

    Raises:
        UserError: when ``resume_sweep`` names no sweep, or another folder is asked for beside it.
    """
    folder = _unquoted(next(value for value in reversed(arguments) if value.startswith(RESUME)).removeprefix(RESUME))
    if folder == "null":
        return list(arguments)
    given = _without_own(arguments)
    places = {Path(_unquoted(value.partition("=")[2])).absolute() for value in given if _key(value) == _PLACE}
    if places - {Path(folder).absolute()}:
        raise UserError(f"{_PLACE}: a sweep goes on in its own folder; leave this out beside {RESUME}{folder}.")
    keys = {_PLACE, *(_key(value) for value in given)}
    former = [value for value in _without_own(read_sweep(Path(folder))["arguments"]) if _key(value) not in keys]
    return ["-m", *former, *given, f"{RESUME}{quoted(folder)}"]


def quoted(text: str) -> str:
    """A path as Hydra's grammar reads it back, whatever signs it holds."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def without_resume(overrides: Iterable[str]) -> list[str]:
    """A job's own overrides: where its sweep goes on is none of them."""
    return [value for value in overrides if not value.startswith(RESUME)]


def _unquoted(text: str) -> str:
    """The path itself, also where it was quoted for Hydra as other overrides have to be."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _without_own(arguments: Sequence[str]) -> list[str]:
    return [value for value in without_resume(arguments) if value not in _MULTIRUN]


def _key(argument: str) -> str:
    """What an override sets, whether it adds, changes or forces it."""
    return argument.split("=", 1)[0].lstrip("+~")


def maximises(folder: Path) -> bool:
    """Whether more of the objective is better in the sweep in ``folder``; so it mostly is, where nothing says it."""
    try:
        return bool(read_sweep(folder).get("maximise", True))
    except UserError:
        return True


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
