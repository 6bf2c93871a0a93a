"""Names that Hydra asks the program for while it composes a configuration; registered on import."""

from __future__ import annotations

import os
import time

from omegaconf import OmegaConf

# One name per process: Hydra asks several times, and the jobs of a sweep have folders of their own below it.
_RUN_NAME = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"


def sweep_folder(resumed: str | None = None) -> str:
    """Where this command's sweep goes: into the folder of the one it goes on with, or into a new one."""
    return resumed or f"multirun/{_RUN_NAME}"


OmegaConf.register_new_resolver("run_name", lambda: _RUN_NAME, replace=True)
OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True)
