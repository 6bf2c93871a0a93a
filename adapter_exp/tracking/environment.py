"""Where a run happened: package versions, the code's commit, the hardware. Imports no library it reports on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from adapter_exp import __version__

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "hydra-core",
    "mlflow",
    "numpy",
    "scipy",
)


def package_versions() -> dict[str, str | None]:
    """Python's version and those of the packages that decide results; None for one that is not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version(), "adapter_exp": __version__}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def git_state(code: Path = Path(__file__)) -> dict[str, Any] | None:
    """Commit and dirty flag of the repository that tracks the file ``code``; None when none does.

    A package installed below some other project's repository is not tracked by it, so that commit is not taken.
    """
    try:
        _git(code.parent, "ls-files", "--error-unmatch", code.name)
        commit = _git(code.parent, "rev-parse", "HEAD").strip()
        dirty = bool(_git(code.parent, "status", "--porcelain").strip())
    except (OSError, subprocess.SubprocessError):  # no git, no repository, no commit yet, another owner's folder
        return None
    return {"commit": commit, "dirty": dirty}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout


def host_hardware() -> dict[str, Any]:
    """CPU model, usable cores and memory; ``device`` is filled in once torch is up. No host or user names."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu_model(), "cores": cores, "memory_bytes": psutil.virtual_memory().total, "device": None}


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
