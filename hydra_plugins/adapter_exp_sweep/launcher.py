"""Hydra's launchers with a ledger around them; only Hydra is imported before a sweep begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SweepLauncher(Launcher):
    """Plans a sweep's jobs, passes over those that are done, and has the rest run by the launcher ``inner``.

    Args:
        inner: configuration of one of Hydra's launchers: ``_target_`` and its own options.
    """

    def __init__(self, inner: DictConfig) -> None:
        self._inner_config = inner

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives a launcher; jobs run a function that worker processes can import by name.

        Raises:
            UserError: when the plugin of ``inner`` is not installed, or several processes run this one command.
        """
        from adapter_exp.parallel.place import refuse_sweep
        from adapter_exp.sweep.composing import compose_once
        from adapter_exp.sweep.job import sweep_task
        from adapter_exp.sweep.launchers import require_installed

        refuse_sweep()
        compose_once(hydra_context.config_loader)
        self._context, self._config = hydra_context, config
        choice = config.hydra.runtime.choices.get("hydra/launcher")
        require_installed(str(self._inner_config["_target_"]), key=f"hydra/launcher={choice}")
        inner: Any = Plugins.instance()._instantiate(self._inner_config)
        inner.setup(hydra_context=hydra_context, task_function=sweep_task, config=config)
        self._inner: Launcher = inner

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs that are not done yet; the numbers of their folders come from the ledger, not from Hydra."""
        from adapter_exp.sweep.sweep import launch_jobs

        return launch_jobs(self._context, self._config, job_overrides, self._launch)

    def _launch(self, job_overrides: list[list[str]], first: int) -> Sequence[JobReturn]:
        from adapter_exp.sweep.launchers import divided_cores

        with divided_cores(self._inner_config, len(job_overrides)):
            returned: Sequence[JobReturn] = self._inner.launch(job_overrides, first)
        return returned
