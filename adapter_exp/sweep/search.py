"""A search with Optuna: trials are asked for, run as jobs of the sweep, and told; what was interrupted goes on.

The study lies in the sweep's folder. A job keeps its parameters in the ledger, a trial in the study, and equal
parameters are one job, so a kill between the two loses nothing: a trial that was running is launched again, and the
ledger knows whether its job has ended, can go on from a checkpoint, or is new.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omegaconf import DictConfig, OmegaConf

from adapter_exp.errors import UserError
from adapter_exp.files import write_text_atomic

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from optuna import Study
    from optuna.trial import FrozenTrial

Direction = Literal["maximize", "minimize"]
Launch = Callable[[Sequence[Sequence[str]], int], "Sequence[JobReturn]"]
Check = Callable[[Sequence[Sequence[str]]], Collection[str]]

RESULTS_FILE = "optimization_results.yaml"
_RETRY_OF = "retry_of"
_REFUSED = "refused"
_OBJECTIVE = "objective"
_LESS_IS_BETTER = ("loss", "perplexity", "error", "nll")


@dataclass(frozen=True)
class SearchSettings:
    """Options of a search.

    Attributes:
        sampler: ``_target_`` of an Optuna sampler and its options.
        direction: ``auto`` takes what is better for the objective's metric.
        storage: URL; the study in it is named ``study_name``.
        n_trials: trials with a value that the study should have in the end.
        n_jobs: trials that are chosen together, without knowing each other's values.
    """

    sampler: Mapping[str, Any]
    direction: Direction | Literal["auto"]
    storage: str
    study_name: str
    n_trials: int
    n_jobs: int

    def __post_init__(self) -> None:
        counts = {"n_trials": self.n_trials, "n_jobs": self.n_jobs}
        faults = [
            f"hydra.sweeper.{name}: {value!r} is not a whole number of at least 1."
            for name, value in counts.items()
            if type(value) is not int or value < 1
        ]
        if self.direction not in ("auto", "maximize", "minimize"):
            faults.append(f"hydra.sweeper.direction: '{self.direction}' is unknown; use auto, maximize or minimize.")
        if faults:
            raise UserError(*faults)


def direction_of(metric: str) -> Direction:
    """What is better for ``metric`` (``TASK/METRIC``): more, unless it is a loss, an error or a perplexity."""
    words = metric.rpartition("/")[2].split("_")
    return "minimize" if any(word in _LESS_IS_BETTER for word in words) else "maximize"


def run_search(settings: SearchSettings, sweep_dir: Path, typed: Sequence[str], launch: Launch, check: Check) -> None:
    """Run the trials that the study lacks, ``n_jobs`` at a time, and write down the best.

    A job without a value is told to the study as a failed trial and the search goes on; a later command tries its
    parameters once more. In one command no more trials are begun than the study lacked at its start.

    Args:
        typed: overrides of the sweep, ranges among them; of two for one key the later counts.
        launch: runs one job for each list of overrides and returns their values in that order.
        check: raises UserError for jobs that cannot be; returns the names of the metrics that the others search by.

    Raises:
        UserError: before the first trial, when there is no range or one of its ends is refused.
    """
    ranges, fixed = read_ranges(typed)
    metric = _one_metric(check(corners(ranges, fixed)))
    direction = direction_of(metric) if settings.direction == "auto" else settings.direction
    study = _open_study(settings, direction, sweep_dir)
    _refuse_other_objective(study, metric)
    _retry_failed(study)
    running = _interrupted(study, ranges)
    missing = settings.n_trials - len(_in_state(study, "COMPLETE"))
    if missing <= 0:  # the sweep is still opened, checked and summed up
        launch([_overrides(trial.params, ranges, fixed) for trial in _in_state(study, "COMPLETE")], 0)
    while missing > 0:
        size = min(settings.n_jobs, missing)
        batch, running = running[:size], running[size:]
        batch += [_ask(study, settings, ranges) for _ in range(size - len(batch))]
        _run_batch(study, batch, [_overrides(trial.params, ranges, fixed) for trial in batch], launch)
        missing -= size
    _write_best(study, sweep_dir)


def _one_metric(metrics: Collection[str]) -> str:
    if len(metrics) > 1:
        raise UserError(
            f"eval.objective: one metric has to be searched by, but the jobs' are {', '.join(sorted(metrics))}."
        )
    return next(iter(metrics))


def _refuse_other_objective(study: Study, metric: str) -> None:
    """Values of two metrics in one study would be compared with each other."""
    former = study.user_attrs.get(_OBJECTIVE)
    if former is None:
        study.set_user_attr(_OBJECTIVE, metric)
    elif former != metric:
        raise UserError(
            f"eval.objective: '{metric}' cannot go on with a study that searches by {former}; use that one."
        )


def read_ranges(typed: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Ranges as Optuna's distributions by key, and the other overrides as they were typed.

    Raises:
        UserError: when nothing is a range, or one cannot be searched.
    """
    _quiet()
    from hydra_plugins.hydra_optuna_sweeper._impl import create_params_from_overrides

    by_key = {override.partition("=")[0]: override for override in typed}
    ranges: dict[str, Any] = {}
    fixed: list[str] = []
    faults: list[str] = []
    for key, override in by_key.items():
        try:
            found, _ = create_params_from_overrides([override])
        except (AssertionError, NotImplementedError, ValueError) as error:
            faults.append(f"{key}: {override.partition('=')[2]} cannot be searched ({error}).")
            continue
        ranges |= {name: _current(distribution) for name, distribution in found.items()}
        fixed += [] if found else [override]
    if faults:
        raise UserError(*faults)
    if not ranges:
        raise UserError(
            "hydra/sweeper=optuna: has nothing to search; give a range, as in 'adapter.r=choice(4,8,16)', "
            "'adapter.hidden_dim=range(16,128,16)' or 'trainer.learning_rate=tag(log,interval(1e-4,3e-3))'."
        )
    return ranges, fixed


def corners(ranges: Mapping[str, Any], fixed: Sequence[str]) -> list[list[str]]:
    """Overrides of jobs in which each end of each range, and each choice, occurs: what is checked beforehand."""
    ends = {key: _ends(distribution) for key, distribution in ranges.items()}
    first = {key: values[0] for key, values in ends.items()}
    points = [first] + [first | {key: value} for key, values in ends.items() for value in values[1:]]
    return [_overrides(point, ranges, fixed) for point in points]


def _ends(distribution: Any) -> tuple[Any, ...]:
    choices = getattr(distribution, "choices", None)
    return (distribution.low, distribution.high) if choices is None else tuple(choices)


def _current(distribution: Any) -> Any:
    """The plugin still makes classes that Optuna 3 gave new names to; they warn whenever they are read."""
    from optuna.distributions import FloatDistribution, IntDistribution

    for kind in (IntDistribution, FloatDistribution):
        if isinstance(distribution, kind):
            return kind(distribution.low, distribution.high, log=distribution.log, step=distribution.step)
    return distribution


def _overrides(params: Mapping[str, Any], ranges: Mapping[str, Any], fixed: Sequence[str]) -> list[str]:
    return [*(f"{key}={_text(params[key])}" for key in ranges), *fixed]


def _text(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _quiet() -> None:
    """Optuna writes a line for each trial to the terminal, which belongs to the sweep's view."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(optuna|hydra_plugins)\.")


def _open_study(settings: SearchSettings, direction: Direction, sweep_dir: Path) -> Study:
    import optuna

    sweep_dir.mkdir(parents=True, exist_ok=True)
    try:
        study = optuna.create_study(
            study_name=settings.study_name,
            storage=settings.storage,
            sampler=_sampler(settings, 0),
            direction=direction,
            load_if_exists=True,
        )
    except Exception as error:  # of Optuna, its database layer or the driver, without a common base; others go on up
        if not type(error).__module__.startswith(("optuna", "sqlalchemy")):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(f"hydra.sweeper.storage: {settings.storage} cannot be opened ({reason}).") from error
    if study.direction.name.lower() != direction:
        raise UserError(
            f"hydra.sweeper.direction: the study in {settings.storage} is to {study.direction.name.lower()}, "
            f"but this command would {direction}; go on with the same objective."
        )
    return study


def _sampler(settings: SearchSettings, number: int) -> Any:
    """The sampler for one trial: seeded by its number, or a study that goes on would draw its first trials again."""
    from hydra.utils import instantiate

    options = dict(settings.sampler)
    if options.get("seed") is not None:
        options["seed"] = (int(options["seed"]) * 1_000_003 + number) % 2**32
    return instantiate(options)


def _in_state(study: Study, *names: str) -> list[FrozenTrial]:
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name in names]


def _retry_failed(study: Study) -> None:
    """Queue the parameters of trials that failed in former commands, each once."""
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get(_RETRY_OF) for trial in trials}
    refused = study.user_attrs.get(_REFUSED, [])
    for trial in _in_state(study, "FAIL"):
        if trial.params and trial.number not in retried and trial.number not in refused:
            study.enqueue_trial(trial.params, user_attrs={_RETRY_OF: trial.number})


def _interrupted(study: Study, ranges: Mapping[str, Any]) -> list[FrozenTrial]:
    """Trials that a former command left running; one that was stopped before it had its parameters is given up."""
    whole = []
    for trial in _in_state(study, "RUNNING"):
        if trial.params.keys() >= ranges.keys():
            whole.append(trial)
        else:
            _fail(study, trial.number, refused=True)
    return whole


def _ask(study: Study, settings: SearchSettings, ranges: Mapping[str, Any]) -> FrozenTrial:
    study.sampler = _sampler(settings, len(study.get_trials(deepcopy=False)))
    try:
        number = study.ask(dict(ranges)).number
    except ValueError as error:
        raise UserError(
            f"hydra.sweeper.params: the ranges are not those that the study began with ({error}); begin a new sweep."
        ) from error
    return study.get_trials(deepcopy=False)[number]


def _run_batch(study: Study, batch: Sequence[FrozenTrial], overrides: Sequence[Sequence[str]], launch: Launch) -> None:
    try:
        returns = launch(overrides, batch[0].number)
    except UserError:  # a combination that cannot be: not to be tried again
        for trial in batch:
            _fail(study, trial.number, refused=True)
        raise
    for trial, returned in zip(batch, returns, strict=True):
        value = returned.return_value
        if isinstance(value, int | float) and math.isfinite(value):
            study.tell(trial.number, float(value))
        else:
            _fail(study, trial.number)


def _fail(study: Study, number: int, *, refused: bool = False) -> None:
    from optuna.trial import TrialState

    study.tell(number, state=TrialState.FAIL)
    if refused:
        study.set_user_attr(_REFUSED, [*study.user_attrs.get(_REFUSED, []), number])


def _write_best(study: Study, sweep_dir: Path) -> None:
    """The best trial in the file and the form of Hydra's own Optuna sweeper."""
    if not _in_state(study, "COMPLETE"):
        return
    best = study.best_trial
    found = {"name": "optuna", "best_params": dict(best.params), "best_value": best.value}
    write_text_atomic(sweep_dir / RESULTS_FILE, OmegaConf.to_yaml(OmegaConf.create(found)))


def plain(options: DictConfig) -> dict[str, Any]:
    """The options of a plugin as plain values, interpolations resolved."""
    values = OmegaConf.to_container(options, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
