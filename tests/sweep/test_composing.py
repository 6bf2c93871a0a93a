"""No job is composed twice, and nobody's changes reach anyone else."""

from __future__ import annotations

import pickle
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from sweep_samples import sweep

from adapter_exp.files import conf_folder
from adapter_exp.sweep.composing import compose_once


def test_checks_and_plan_compose_each_job_once(tmp_path, monkeypatch):
    composed: list[tuple[str, ...]] = []
    load = ConfigLoaderImpl.load_sweep_config

    def counted(self: Any, master: Any, overrides: list[str]) -> Any:
        composed.append(tuple(overrides))
        return load(self, master, overrides)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counted)
    result = sweep(tmp_path, "adapter=none", "seed=0,1", monkeypatch=monkeypatch)
    assert result.exit_code == 0
    assert len(composed) == len(set(composed)) == 4  # to plan and, in its folder, to run each of two jobs


def test_every_caller_gets_a_copy_and_a_worker_process_no_memory():
    GlobalHydra.instance().clear()
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_folder())))
    master = loader.load_configuration("config", [], run_mode=RunMode.MULTIRUN)
    wanted = loader.load_sweep_config(master, ["seed=3"])
    compose_once(loader)
    first = loader.load_sweep_config(master, ["seed=3"])
    assert first == wanted
    first.seed = 4
    for _ in range(2):  # the second time from memory, the third composed again
        assert loader.load_sweep_config(master, ["seed=3"]) == wanted
    assert loader.load_sweep_config(master, ["seed=5"]).seed == 5
    elsewhere = pickle.loads(pickle.dumps(loader))
    assert elsewhere.load_sweep_config._known == {}
    assert elsewhere.load_sweep_config(master, ["seed=3"]) == wanted
