"""The search by itself: what is asked, launched and told, with jobs that are plain functions."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from omegaconf import OmegaConf

from adapter_exp.errors import UserError
from adapter_exp.sweep.search import (
    RESULTS_FILE,
    SearchSettings,
    corners,
    direction_of,
    read_ranges,
    run_search,
)

RANGES = ["adapter.r=choice(4,8,16)", "trainer.learning_rate=tag(log,interval(1e-4,1e-2))", "seed=3"]
TPE = {"_target_": "optuna.samplers.TPESampler", "seed": 0, "n_startup_trials": 3}


class Killed(BaseException):
    """What kill -9 is to a process."""


class Jobs:
    """Stands in for the sweep: counts what runs, keeps values as the ledger does."""

    def __init__(self, *, fails: int | None = None, dies_at: int | None = None):
        self.ran: list[tuple[str, ...]] = []
        self.ended: dict[tuple[str, ...], float] = {}
        self.fails, self.dies_at = fails, dies_at

    def launch(self, job_overrides, first):
        return [SimpleNamespace(return_value=self.value(tuple(overrides))) for overrides in job_overrides]

    def value(self, overrides):
        if overrides not in self.ended:
            if len(self.ran) == self.dies_at:
                self.dies_at = None
                raise Killed
            self.ran.append(overrides)
            if len(self.ran) - 1 == self.fails:
                return math.nan
            given = dict(override.split("=") for override in overrides)
            assert given["seed"] == "3"
            self.ended[overrides] = -abs(math.log10(float(given["trainer.learning_rate"])) + 3) - int(
                given["adapter.r"]
            )
        return self.ended[overrides]


def settings(folder: Path, **changed) -> SearchSettings:
    values = {"sampler": TPE, "direction": "auto", "storage": f"sqlite:///{folder}/study.db", "study_name": "s"}
    return SearchSettings(**(values | {"n_trials": 6, "n_jobs": 1} | changed))


def search(folder: Path, jobs: Jobs, typed=RANGES, *, metrics=("nerus/micro_f1",), **changed) -> optuna.Study:
    chosen = settings(folder, **changed)
    run_search(chosen, folder, typed, jobs.launch, lambda _: set(metrics))
    return load(folder)


def load(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/study.db")


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Jobs:
    jobs = Jobs()
    search(tmp_path_factory.mktemp("undisturbed"), jobs)
    return jobs


def test_the_best_is_found_and_written_down(tmp_path):
    jobs = Jobs()
    study = search(tmp_path, jobs)
    assert states(study) == ["COMPLETE"] * 6
    assert study.best_value == max(jobs.ended.values())
    written = OmegaConf.load(tmp_path / RESULTS_FILE)
    assert written.best_value == study.best_value
    assert dict(written.best_params) == study.best_params


@pytest.mark.parametrize("moment", [0, 2, 5])
def test_a_killed_search_goes_on_as_if_nothing_had_happened(tmp_path, undisturbed, moment):
    jobs = Jobs(dies_at=moment)
    with pytest.raises(Killed):
        search(tmp_path, jobs)
    assert states(load(tmp_path)) == ["COMPLETE"] * moment + ["RUNNING"]
    study = search(tmp_path, jobs)
    assert states(study) == ["COMPLETE"] * 6
    assert jobs.ran == undisturbed.ran
    assert len(set(jobs.ran)) == len(jobs.ran)


def test_a_value_that_a_kill_kept_from_the_study_is_not_computed_again(tmp_path):
    jobs = Jobs()

    def launch(job_overrides, first):
        jobs.launch(job_overrides, first)
        raise Killed

    with pytest.raises(Killed):
        run_search(settings(tmp_path), tmp_path, RANGES, launch, lambda _: {"nerus/micro_f1"})
    study = search(tmp_path, jobs, n_trials=2)
    assert states(study) == ["COMPLETE"] * 2
    assert len(jobs.ran) == 2


def test_a_failed_job_is_no_value_and_is_tried_once_more_by_the_next_command(tmp_path):
    jobs = Jobs(fails=1)
    study = search(tmp_path, jobs, n_trials=3)
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE"]
    failed = jobs.ran[1]
    study = search(tmp_path, jobs, n_trials=3)
    assert states(study) == ["COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    assert jobs.ran[3:] == [failed]
    assert study.trials[3].params == study.trials[1].params
    assert search(tmp_path, jobs, n_trials=3).trials == study.trials


def test_a_finished_study_launches_its_jobs_for_the_summary_only(tmp_path):
    jobs = Jobs()
    search(tmp_path, jobs, n_trials=2)
    launched = []
    run_search(
        settings(tmp_path, n_trials=2), tmp_path, RANGES, lambda o, _: launched.extend(o), lambda _: {"nerus/micro_f1"}
    )
    assert [tuple(overrides) for overrides in launched] == jobs.ran


def test_trials_are_chosen_together_for_several_jobs_at_once(tmp_path):
    sizes = []
    jobs = Jobs()

    def launch(job_overrides, first):
        sizes.append(len(job_overrides))
        return jobs.launch(job_overrides, first)

    run_search(settings(tmp_path, n_trials=5, n_jobs=2), tmp_path, RANGES, launch, lambda _: {"nerus/micro_f1"})
    assert sizes == [2, 2, 1]
    assert states(load(tmp_path)) == ["COMPLETE"] * 5


def test_a_refused_combination_ends_the_command_and_is_not_tried_again(tmp_path):
    def refuse(job_overrides, first):
        raise UserError("adapter.r: too large.")

    with pytest.raises(UserError, match="too large"):
        run_search(settings(tmp_path), tmp_path, RANGES, refuse, lambda _: {"nerus/micro_f1"})
    study = search(tmp_path, Jobs(), n_trials=2)
    assert states(study) == ["FAIL", "COMPLETE", "COMPLETE"]
    assert study.trials[0].params not in [trial.params for trial in study.trials[1:]]


def test_other_ranges_another_direction_or_objective_are_refused_for_a_study_that_has_begun(tmp_path):
    jobs = Jobs()
    search(tmp_path, jobs, n_trials=1)
    with pytest.raises(UserError, match=r"hydra\.sweeper\.params: the ranges are not those"):
        search(tmp_path, jobs, ["adapter.r=choice(2,64)", *RANGES[1:]], n_trials=2)
    with pytest.raises(UserError, match=r"is to maximize, but this command would minimize"):
        search(tmp_path, jobs, metrics=("nerus/loss",), n_trials=2)
    with pytest.raises(UserError, match=r"'terra/accuracy' cannot go on with a study that searches by nerus/micro_f1"):
        search(tmp_path, jobs, metrics=("terra/accuracy",), n_trials=2)
    with pytest.raises(UserError, match=r"the jobs' are nerus/micro_f1, terra/accuracy"):
        search(tmp_path, jobs, metrics=("nerus/micro_f1", "terra/accuracy"))


def test_every_end_of_every_range_is_checked_beforehand(tmp_path):
    ranges, fixed = read_ranges([*RANGES, "adapter.layers=all,last:4", "adapter.alpha=range(8,32,8)"])
    points = [dict(override.split("=") for override in point) for point in corners(ranges, fixed)]
    assert {point["adapter.r"] for point in points} == {"4", "8", "16"}
    assert {point["adapter.layers"] for point in points} == {"all", "last:4"}
    assert {float(point["trainer.learning_rate"]) for point in points} == {1e-4, 1e-2}
    assert {point["adapter.alpha"] for point in points} == {"8", "32"}
    assert {point["seed"] for point in points} == {"3"}

    def check(job_overrides):
        raise UserError("adapter.r: '16' is refused.")

    with pytest.raises(UserError, match="'16' is refused"):
        run_search(settings(tmp_path), tmp_path, RANGES, Jobs().launch, check)
    assert not (tmp_path / "study.db").exists()


def test_every_range_that_cannot_be_searched_is_named():
    with pytest.raises(UserError) as raised:
        read_ranges(["adapter.r=interval(8,2)", "trainer.learning_rate=tag(log,interval(-1,2))", "seed=0"])
    assert [fault.split(": ")[0] for fault in raised.value.faults] == ["adapter.r", "trainer.learning_rate"]


def test_the_later_of_two_overrides_counts():
    ranges, fixed = read_ranges([*RANGES, "adapter.r=8", "seed=1,2", "tracking=none"])
    assert set(ranges) == {"trainer.learning_rate", "seed"}
    assert fixed == ["adapter.r=8", "tracking=none"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"n_trials": 0}, "hydra.sweeper.n_trials: 0 is not a whole number of at least 1."),
        ({"n_jobs": "2"}, "hydra.sweeper.n_jobs: '2' is not a whole number of at least 1."),
        ({"direction": "up"}, "hydra.sweeper.direction: 'up' is unknown; use auto, maximize or minimize."),
    ],
)
def test_an_impossible_option_is_refused(tmp_path, changed, told):
    with pytest.raises(UserError) as raised:
        settings(tmp_path, **changed)
    assert raised.value.faults == (told,)


def test_a_search_without_a_range_and_a_storage_that_cannot_be_opened_are_refused(tmp_path):
    with pytest.raises(UserError, match="has nothing to search"):
        read_ranges(["adapter.r=8"])
    with pytest.raises(UserError, match=r"hydra\.sweeper\.storage: sqlite:///.*none/study\.db cannot be opened"):
        search(tmp_path, Jobs(), storage=f"sqlite:///{tmp_path}/none/study.db")


def test_more_is_better_but_of_a_loss_or_a_perplexity():
    assert direction_of("nerus/micro_f1") == direction_of("terra/accuracy_loglik") == "maximize"
    assert direction_of("nerus/loss") == direction_of("text/word_perplexity") == "minimize"
