"""The search through the command line, with jobs of the tiny model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from experiment_samples import overrides
from sweep_samples import Swept, command

from adapter_exp.sweep.ledger import Ledger

RATES = "trainer.learning_rate=tag(log,interval(1e-4,1e-2))"
SEARCH = ("hydra/sweeper=optuna", "adapter.r=choice(2,4,8)", RATES)


def arguments(root: Path, *more: str) -> list[str]:
    return ["-m", *overrides(root, *SEARCH, f"hydra.sweep.dir={root / 'sweep'}", *more)]


def search(root: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Swept:
    return command(arguments(root, *more), root / "sweep", monkeypatch)


def study_of(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="adapter_exp", storage=f"sqlite:///{folder}/study.db")


def values(folder: Path) -> list[float | None]:
    return [trial.value for trial in study_of(folder).trials]


@pytest.mark.slow
def test_a_failed_job_is_no_value_and_does_not_end_the_search(tmp_path, monkeypatch, capfd):
    diverging = ("hydra/sweeper/sampler=random", "adapter.r=4", "adapter.alpha=choice(8,1e38)")
    more = (*diverging, "trainer.max_grad_norm=0.0", "trainer.epochs=2", "trainer.learning_rate=1.0")
    first = search(tmp_path, monkeypatch, *more, "hydra.sweeper.n_trials=3")
    trials = study_of(first.folder).trials
    told = {(trial.params["adapter.alpha"], trial.state.name) for trial in trials}
    assert told == {(8, "COMPLETE"), (1e38, "FAIL")}
    assert len(trials) == 3
    assert (first.exit_code, first.errors) == (1, "")
    assert "rial" not in capfd.readouterr().err  # Optuna's own lines
    assert sorted((job.state, job.attempts) for job in first.jobs) == [("failed", 1), ("ok", 1)]

    again = search(tmp_path, monkeypatch, *more, "hydra.sweeper.n_trials=3", f"resume_sweep={first.folder}")
    assert again.exit_code == 1
    assert sorted((job.state, job.attempts) for job in again.jobs) == [("failed", 2), ("ok", 1)]


@pytest.mark.slow
def test_a_search_that_is_killed_ends_as_if_left_alone(tmp_path, monkeypatch):
    wanted = 3
    alone = search(tmp_path / "alone", monkeypatch, f"hydra.sweeper.n_trials={wanted}", "eval.objective=nerus/micro_f1")
    assert alone.exit_code == 0, alone.output + alone.errors

    root = tmp_path / "killed"
    typed = arguments(root, f"hydra.sweeper.n_trials={wanted}", "eval.objective=nerus/micro_f1")
    process = subprocess.Popen(
        [sys.executable, "-m", "adapter_exp.run", *typed],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    )
    ledger = Ledger(root / "sweep")
    deadline = time.monotonic() + 250
    while sum(job.state == "running" for job in ledger.jobs()) == 0 or len(ledger.jobs()) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = {job.config_hash: job for job in ledger.jobs()}
    assert [job.state for job in before.values()] == ["ok", "running"]

    folder = root / "sweep"
    resumed = command([*typed, f"resume_sweep={folder}"], folder, monkeypatch)
    assert resumed.exit_code == 0, resumed.output + resumed.errors
    study, expected = study_of(folder), study_of(alone.folder)
    assert [trial.params for trial in study.trials] == [trial.params for trial in expected.trials]
    assert values(folder) == values(alone.folder)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * wanted
    attempts = [job.attempts for job in resumed.jobs]
    assert attempts[0] == 1
    assert attempts[1] == 2
    assert len(resumed.jobs) == len(alone.jobs)
