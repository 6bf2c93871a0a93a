"""Launchers around the sweep: plugins that are missing, cores that are divided, and two jobs with each launcher."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from experiment_samples import overrides
from hydra._internal.utils import create_config_search_path
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from joblib import Parallel, cpu_count, delayed
from sweep_samples import Swept, command, numbers

from adapter_exp.errors import UserError
from adapter_exp.files import conf_folder, sha256_file
from adapter_exp.sweep import launchers
from adapter_exp.sweep.launchers import THREADS, divided_cores, require_installed

JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
LOCAL = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"
RAY = "hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher"
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"


@pytest.mark.parametrize("target", [BASIC, JOBLIB, LOCAL, RAY, "hydra_plugins.hydra_optuna_sweeper"])
def test_what_the_test_environment_has_is_not_missing(target: str):
    require_installed(target, key="hydra/launcher=x")


@pytest.mark.parametrize(
    ("absent", "target", "told"),
    [
        ("ray", RAY, "ray not installed; install by: pip install 'ray>=2.60,<2.61' && pip install --no-deps hydra-ray"),
        ("hydra_plugins.hydra_submitit_launcher", LOCAL, "install by: pip install 'hydra-submitit-launcher>=1.2,<1.3'"),
    ],
)
def test_a_missing_plugin_is_named_with_the_command_that_installs_it(absent, target, told, monkeypatch):
    there = launchers._is_there
    monkeypatch.setattr(launchers, "_is_there", lambda name: name != absent and there(name))
    with pytest.raises(UserError) as raised:
        require_installed(target, key="hydra/launcher=ray")
    [line] = raised.value.faults
    assert line.startswith(f"hydra/launcher=ray: {absent}")
    assert told in line


def test_a_package_that_is_not_there_is_seen():
    assert launchers._is_there("hydra_plugins.hydra_joblib_launcher")
    assert not launchers._is_there("hydra_plugins.hydra_nothing.more")
    assert not launchers._is_there("nothing_of_that_name")


@pytest.mark.parametrize("asked", ["hydra/launcher=ray", "hydra/sweeper=optuna"])
def test_a_missing_plugin_ends_the_command_before_the_first_job(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(launchers, "_is_there", lambda name: False)
    swept = command(["-m", *overrides(tmp_path), asked, f"hydra.sweep.dir={tmp_path}/sweep"], tmp_path, monkeypatch)
    assert swept.exit_code == 2
    [line] = swept.errors.splitlines()
    assert line.startswith(f"error: {asked}: hydra_plugins.hydra_")
    assert not (tmp_path / "sweep").exists()


def test_cores_are_divided_among_the_jobs_that_run_at_once(monkeypatch):
    monkeypatch.delenv(THREADS, raising=False)
    monkeypatch.setattr("joblib.cpu_count", lambda: 8)
    monkeypatch.setattr("joblib.effective_n_jobs", lambda n: 8 if n == -1 else n)

    def threads(options: dict, n_jobs: int) -> str | None:
        with divided_cores(options, n_jobs):
            return os.environ.get(THREADS)

    assert threads({"_target_": JOBLIB, "n_jobs": 2}, 6) == "4"
    assert threads({"_target_": JOBLIB, "n_jobs": 4}, 2) == "4"
    assert threads({"_target_": JOBLIB, "n_jobs": -1}, 20) == "1"
    assert threads({"_target_": LOCAL}, 3) == "2"
    assert threads({"_target_": LOCAL}, 20) == "1"
    assert threads({"_target_": BASIC}, 4) is None
    assert threads({"_target_": RAY}, 4) is None
    assert THREADS not in os.environ
    monkeypatch.setenv(THREADS, "3")
    assert threads({"_target_": JOBLIB, "n_jobs": 2}, 2) == "3"
    assert os.environ[THREADS] == "3"


def test_worker_processes_of_joblib_get_their_share(monkeypatch):
    monkeypatch.delenv(THREADS, raising=False)
    with divided_cores({"_target_": JOBLIB, "n_jobs": 2}, 2):
        seen = Parallel(n_jobs=2, backend="loky")(delayed(os.environ.get)(THREADS) for _ in range(2))
    assert seen == [str(max(1, cpu_count() // 2))] * 2


def test_files_stand_in_for_plugins_of_the_same_name_in_this_program_only(tmp_path):
    Plugins.instance()
    stored = ConfigStore.instance().repo["hydra"]["launcher"]
    kept, marker = dict(stored), object()
    try:
        stored["joblib.yaml"] = stored["other.yaml"] = marker
        create_config_search_path(str(tmp_path))
        assert stored["joblib.yaml"] is marker
        create_config_search_path(str(conf_folder()))
        assert "joblib.yaml" not in stored
        assert stored["other.yaml"] is marker
    finally:
        stored.clear()
        stored.update(kept)


def swept_by(launcher: str, root: Path, *more: str) -> Swept:
    """Two jobs by the command line in a process of its own."""
    folder = root / launcher
    arguments = ["-m", *overrides(root, "seed=0,1", f"hydra/launcher={launcher}", f"hydra.sweep.dir={folder}", *more)]
    finished = subprocess.run(
        [sys.executable, "-m", "adapter_exp.run", *arguments],
        env=os.environ | {THREADS: "1", "COLUMNS": "200"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    return Swept(folder, finished.returncode, finished.stdout, finished.stderr)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Swept:
    return swept_by("basic", tmp_path_factory.mktemp("alone"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "more"),
    [
        ("joblib", ["hydra.launcher.inner.n_jobs=2"]),
        ("ray", ["hydra.launcher.inner.ray.init.num_cpus=2"]),
        ("submitit_local", []),
    ],
    ids=["joblib", "ray", "submitit_local"],
)
def test_two_jobs_in_processes_of_their_own_give_the_numbers_of_one_process(launcher, more, alone, tmp_path):
    swept = swept_by(launcher, tmp_path, *more)
    assert (swept.exit_code, swept.errors) == (0, "")
    assert [(job.state, job.attempts) for job in swept.jobs] == [("ok", 1)] * 2
    assert "2 of 2 done" in swept.output
    assert len(running_in(swept.folder)) == 2
    for number in range(2):
        assert numbers(swept.record(number)) == numbers(alone.record(number))
        assert adapter(swept, number) == adapter(alone, number)


def running_in(folder: Path) -> set[int]:
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["pid"] for line in lines if line["state"] == "running"}


def adapter(swept: Swept, number: int) -> str:
    return sha256_file(swept.folder / str(number) / "adapter" / "adapter_model.safetensors")
