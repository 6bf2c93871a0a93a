"""The jobs of a sweep before the first one starts: composed, checked, numbered, and ordered by their base."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omegaconf import DictConfig, OmegaConf, open_dict

from adapter_exp.config import NOT_IDENTITY, Config, parse_config
from adapter_exp.errors import UserError
from adapter_exp.sweep.ledger import Ledger

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader

T = TypeVar("T")


@dataclass(frozen=True)
class PlannedJob:
    """One job of a sweep.

    Attributes:
        overrides: of the command line, as Hydra's sweeper gives them.
        number: of its folder below the sweep's.
    """

    overrides: tuple[str, ...]
    config: Config
    number: int

    @property
    def config_hash(self) -> str:
        """Identity of the job."""
        return self.config.sha256


def plan_jobs(
    loader: ConfigLoader, master: DictConfig, job_overrides: Sequence[Sequence[str]], folder: Path
) -> list[PlannedJob]:
    """Compose and check all jobs.

    Args:
        folder: of the sweep; a job in its ledger keeps its number, and no other gets a number that is in use.

    Returns:
        one job for each list of overrides, in their order; equal configurations get the same number.

    Raises:
        UserError: with all faults of all jobs.
    """
    wanted = [tuple(overrides) for overrides in job_overrides]
    configs = _all_or_faults(wanted, [partial(_config, loader, master, overrides) for overrides in wanted])
    checks = _Checks()
    _all_or_faults(wanted, [partial(checks.check, config) for config in configs])
    numbers = {entry.config_hash: entry.number for entry in Ledger(folder).jobs()}
    free = count(max([*numbers.values(), *numbered(folder)], default=-1) + 1)
    for config in configs:
        if config.sha256 not in numbers:
            numbers[config.sha256] = next(free)
    return [
        PlannedJob(overrides, config, numbers[config.sha256]) for overrides, config in zip(wanted, configs, strict=True)
    ]


def numbered(folder: Path) -> list[int]:
    """Numbers of the run folders below ``folder``."""
    return [int(path.name) for path in folder.glob("*/") if path.name.isdecimal()] if folder.is_dir() else []


def _all_or_faults(jobs: Sequence[tuple[str, ...]], steps: Sequence[Callable[[], T]]) -> list[T]:
    """What each job's step returns.

    Raises:
        UserError: with the faults of all jobs, if any has one.
    """
    results: list[T] = []
    faults: dict[str, list[tuple[str, ...]]] = {}
    for overrides, step in zip(jobs, steps, strict=True):
        try:
            results.append(step())
        except UserError as error:
            for fault in error.faults:
                faults.setdefault(fault, []).append(overrides)
    if faults:
        raise UserError(*_told(faults, jobs))
    return results


def by_base(jobs: Iterable[PlannedJob]) -> list[PlannedJob]:
    """Each configuration once, those of one base together: a process holds one base at a time."""
    from adapter_exp.preparation import base_model

    groups: dict[str, dict[str, PlannedJob]] = {}
    for job in jobs:
        base = [base_model(job.config).model_dump(mode="json"), job.config.quantization.model_dump(mode="json")]
        groups.setdefault(json.dumps(base, sort_keys=True), {}).setdefault(job.config_hash, job)
    return [job for group in groups.values() for job in group.values()]


def varying(job_overrides: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Keys of the overrides that differ between jobs, in their order; only those that change a job's numbers."""
    lists = [dict(override.split("=", 1) for override in overrides if "=" in override) for overrides in job_overrides]
    left_out = (*NOT_IDENTITY, "eval.objective", "quantization.keep")
    keys = dict.fromkeys(key for values in lists for key in values if not _is_below(key, left_out))
    return tuple(key for key in keys if len({values.get(key) for values in lists}) > 1)


def _is_below(key: str, parents: Sequence[str]) -> bool:
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def axes_of(job_overrides: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """What a sweep varies: key -> its values, each once, in their order."""
    lists = [dict(text.split("=", 1) for text in overrides if "=" in text) for overrides in job_overrides]
    return {
        key: list(dict.fromkeys(values[key] for values in lists if key in values)) for key in varying(job_overrides)
    }


def readable(override: str) -> str:
    """An override without the backslashes that Hydra's sweeper puts before colons, commas and the like."""
    return re.sub(r"\\(?=[\\()\[\]{}:=, \t])", "", override)


def _config(loader: ConfigLoader, master: DictConfig, overrides: Sequence[str]) -> Config:
    composed = loader.load_sweep_config(master, list(overrides))
    with open_dict(composed):
        del composed["hydra"]
    values: Any = OmegaConf.to_container(composed, resolve=True)
    return parse_config(values)


class _Checks:
    """What is checked against models and files; equal settings once, however many jobs have them."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, ...]] = {}

    def check(self, config: Config) -> None:
        """Raises UserError: when the model, the machine or the data do not allow the job."""
        from adapter_exp.models.shape import read_shape
        from adapter_exp.preparation import check_against_model, load_data

        cache_dir = Path(config.cache_dir).expanduser()
        identity = config.identity()
        data = [identity["task"], identity["eval"], config.adapter.kind in ("none", "saved")]
        fits = [identity[key] for key in ("model", "quantization", "adapter", "trainer", "device")]
        faults = self._once(fits, lambda: check_against_model(config, read_shape(config.model, cache_dir)))
        faults += self._once(data, lambda: load_data(config))
        if faults:
            raise UserError(*faults)

    def _once(self, settings: Any, check: Any) -> tuple[str, ...]:
        key = json.dumps(settings, sort_keys=True)
        if key not in self._seen:
            try:
                check()
                self._seen[key] = ()
            except UserError as error:
                self._seen[key] = error.faults
        return self._seen[key]


def _told(faults: dict[str, list[tuple[str, ...]]], all_overrides: Sequence[Sequence[str]]) -> list[str]:
    """Each fault once; one that only some jobs have says which was the first of them."""
    names = varying(all_overrides)
    lines = []
    for fault, jobs in faults.items():
        first = " ".join(readable(override) for override in jobs[0] if override.split("=", 1)[0] in names)
        if len(jobs) == len(all_overrides) or not first:
            lines.append(fault)
            continue
        more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
        lines.append(f"job {first}{more}: {fault}")
    return lines
