"""What Hydra's launchers and sweepers need around them: an installed plugin, and the cores divided among their jobs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from adapter_exp.errors import UserError

THREADS = "OMP_NUM_THREADS"
"""Read by torch and numpy when a process imports them."""

# Plugin package -> what has to be importable beside it, and how to get both.
_PLUGINS = {
    "hydra_joblib_launcher": (("joblib",), "pip install 'hydra-joblib-launcher>=1.2,<1.3'"),
    "hydra_ray_launcher": (
        ("ray",),
        "pip install 'ray>=2.60,<2.61' && pip install --no-deps hydra-ray-launcher==1.2.2",
    ),
    "hydra_submitit_launcher": (("submitit",), "pip install 'hydra-submitit-launcher>=1.2,<1.3'"),
    "hydra_optuna_sweeper": (
        ("optuna",),
        "pip install 'optuna>=5.0,<5.1' && pip install --no-deps hydra-optuna-sweeper==1.3.0",
    ),
}


def require_installed(target: str, *, key: str) -> None:
    """Check that the plugin which has the class ``target`` is there; nothing of it is imported.

    Args:
        target: dotted name, as in ``hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher``.
        key: of the command line that asked for it, as in ``hydra/launcher=ray``.

    Raises:
        UserError: with the command that installs it.
    """
    package = target.removeprefix("hydra_plugins.").split(".")[0]
    if package not in _PLUGINS:
        return
    others, command = _PLUGINS[package]
    missing = [name for name in (f"hydra_plugins.{package}", *others) if not _is_there(name)]
    if missing:
        raise UserError(f"{key}: {' and '.join(missing)} not installed; install by: {command}")


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


@contextmanager
def divided_cores(launcher: Mapping[str, Any], n_jobs: int) -> Iterator[None]:
    """Give every job that runs at once its share of this machine's cores, through the environment of new processes.

    ``OMP_NUM_THREADS`` of the user stays as it is. Ray and Slurm do this themselves, by the cores asked for each job.

    Args:
        launcher: options of Hydra's launcher, with its ``_target_``.
        n_jobs: jobs to run.
    """
    at_once = _at_once(launcher, n_jobs)
    if at_once is None or THREADS in os.environ:
        yield
        return
    from joblib import cpu_count  # knows the limits of containers, unlike os.cpu_count

    os.environ[THREADS] = str(max(1, cpu_count() // at_once))
    try:
        yield
    finally:
        del os.environ[THREADS]


def _at_once(launcher: Mapping[str, Any], n_jobs: int) -> int | None:
    """Jobs that run at the same time on this machine; None where the launcher sees to their threads or has one."""
    name = str(launcher["_target_"]).rpartition(".")[2]
    if name == "LocalLauncher":  # submitit's: all at once
        return n_jobs
    if name != "JoblibLauncher":
        return None
    from joblib import effective_n_jobs

    return min(n_jobs, int(effective_n_jobs(launcher.get("n_jobs", -1))))
