"""Each job of a sweep is composed once to be checked and planned."""

from __future__ import annotations

import pickle
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from omegaconf import DictConfig


def compose_once(loader: ConfigLoader) -> None:
    """Let ``loader`` remember the jobs of the sweep that it serves.

    Hydra's sweeper asks for a job to see whether it composes, then the plan of the sweep asks for it; composing takes
    a third of a second. The launcher asks with the job's folder among the overrides, so that is another job.
    """
    loader.load_sweep_config = _Composed(loader)  # type: ignore[method-assign]  # of this one object


class _Composed:
    """``load_sweep_config`` of ``loader``; what it has composed is remembered until it is asked for again."""

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._known: dict[tuple[str, ...], bytes] = {}  # small, and every caller gets a copy of its own

    def __call__(self, master_config: DictConfig, sweep_overrides: list[str]) -> Any:
        """The composed job."""
        key = tuple(sweep_overrides)
        if key in self._known:
            return pickle.loads(self._known.pop(key))
        composed = type(self._loader).load_sweep_config(self._loader, master_config, sweep_overrides)
        with suppress(pickle.PicklingError):  # plugins were scanned anew, and with them came other classes
            self._known[key] = pickle.dumps(composed)
        return composed

    def __getstate__(self) -> dict[str, Any]:
        """A worker process gets none of the other jobs."""
        return {"_loader": self._loader, "_known": {}}
