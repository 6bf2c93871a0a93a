"""The samples that ship with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path


def bundled_path(task: str) -> Path:
    """Folder of the bundled sample of ``task``, in the task's published raw format.

    Made by ``adapter_exp/data/samples/generate.py``; all persons and organisations in it are invented.
    """
    return Path(str(files("adapter_exp.data") / "samples" / task))
