"""The tasks by name; a task's module is imported when it is asked for."""

from __future__ import annotations

import difflib
import importlib
from types import ModuleType
from typing import cast

from adapter_exp.errors import UserError
from adapter_exp.tasks.config import TaskConfig
from adapter_exp.tasks.protocol import Task

# Each module has ``Config`` (a TaskConfig) and ``build(config) -> Task``.
_MODULES = {
    "nerus": "adapter_exp.tasks.nerus",
    "terra": "adapter_exp.tasks.terra",
}


def task_names() -> tuple[str, ...]:
    """Names of all tasks, sorted."""
    return tuple(sorted(_MODULES))


def config_class(name: str) -> type[TaskConfig]:
    """The settings class of task ``name``.

    Raises:
        UserError: if there is no such task; the line names the nearest ones.
    """
    return cast("type[TaskConfig]", _module(name).Config)


def build_task(config: TaskConfig) -> Task:
    """The task that ``config`` describes; nothing is read before ``load``."""
    return cast(Task, _module(config.name).build(config))


def _module(name: str) -> ModuleType:
    if name not in _MODULES:
        near = difflib.get_close_matches(name, _MODULES, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UserError(f"task.name: '{name}' is not a task.{hint} Tasks: {', '.join(task_names())}.")
    return importlib.import_module(_MODULES[name])
