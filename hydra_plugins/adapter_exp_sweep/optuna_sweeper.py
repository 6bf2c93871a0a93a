"""Hydra's Optuna sweeper with a study that goes on: only Hydra is imported before a search begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class OptunaSweeper(Sweeper):
    """Searches ranges for the best objective; see ``adapter_exp/sweep/search.py``.

    Args:
        sampler: configuration of one of Optuna's samplers: ``_target_`` and its own options.
        direction: ``auto`` (what is better for the objective's metric), ``maximize`` or ``minimize``.
        storage: URL of Optuna's storage.
        study_name: of the study in it.
        n_trials: trials that the study should have in the end, those of former commands among them.
        n_jobs: trials that are chosen and launched together.
        params: ranges by key, as they could stand on the command line.
    """

    def __init__(
        self,
        sampler: DictConfig,
        direction: Any,
        storage: str,
        study_name: str,
        n_trials: int,
        n_jobs: int,
        params: DictConfig | None,
    ) -> None:
        self._sampler, self._direction = sampler, direction
        self._storage, self._study_name = storage, study_name
        self._n_trials, self._n_jobs = n_trials, n_jobs
        self._params: dict[str, Any] = {} if params is None else {str(key): params[key] for key in params}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives a sweeper.

        Raises:
            UserError: when Optuna or its plugin is not installed, or an option has an impossible value.
        """
        from hydra.core.plugins import Plugins

        from adapter_exp.sweep.launchers import require_installed

        require_installed("hydra_plugins.hydra_optuna_sweeper", key="hydra/sweeper=optuna")
        self._context, self._config = hydra_context, config
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that the study lacks.

        Raises:
            UserError: when the options, the ranges or what they lead to are at fault, or the folder is in use.
        """
        from pathlib import Path

        from adapter_exp.sweep.arguments import without_resume
        from adapter_exp.sweep.plan import plan_jobs
        from adapter_exp.sweep.search import SearchSettings, plain, run_search
        from adapter_exp.sweep.sweep import refuse_taken

        settings = SearchSettings(
            sampler=plain(self._sampler),
            direction=self._direction,
            storage=self._storage,
            study_name=self._study_name,
            n_trials=self._n_trials,
            n_jobs=self._n_jobs,
        )
        folder = Path(str(self._config.hydra.sweep.dir))
        ranges = [f"{key}={value}" for key, value in self._params.items()]

        def check(job_overrides: Sequence[Sequence[str]]) -> set[str]:
            jobs = plan_jobs(self._context.config_loader, self._config, job_overrides, folder)
            return {"/".join(job.config.objective) for job in jobs}

        refuse_taken(folder.absolute(), self._config)
        run_search(settings, folder, [*ranges, *without_resume(arguments)], self._launcher.launch, check)
