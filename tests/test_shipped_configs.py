"""Every file below conf/ composes, is valid, and says what it says about itself."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.utils import instantiate
from omegaconf import OmegaConf
from transformers import AutoConfig, AutoModelForCausalLM

import adapter_exp.resolvers  # noqa: F401 - the configuration asks for its names
from adapter_exp.adapters import count_parameters
from adapter_exp.adapters.shapes import shape_of
from adapter_exp.config import Config, parse_config
from adapter_exp.files import conf_folder
from adapter_exp.sweep.search import corners, read_ranges
from adapter_exp.tasks.registry import task_names

CONF = conf_folder()
FILES = sorted(CONF.rglob("*.yaml"))
HYDRA_FILES = sorted((CONF / "hydra").rglob("*.yaml"))
GROUP_FILES = [file for file in FILES if file.parent != CONF and file not in HYDRA_FILES]
SWEEPS = sorted(file for file in (CONF / "experiment").glob("*.yaml") if "MULTIRUN" in file.read_text(encoding="utf-8"))
SMOLLM2 = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "vocab_size": 49_152, "tie_word_embeddings": True,
}  # fmt: skip
# Values that a user has to give.
REQUIRED = {
    "model/hub": ["model.id=owner/name"],
    "model/folder": ["model.path=/models/mine"],
    "adapter/saved": ["adapter.path=outputs/RUN/adapter"],
}


def name_of(file: Path) -> str:
    return file.relative_to(CONF).with_suffix("").as_posix()


@functools.cache
def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        values = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


@pytest.mark.parametrize("file", GROUP_FILES, ids=name_of)
def test_a_file_of_a_group_is_valid(file: Path):
    config = parse_config(composed(f"{file.parent.name}={file.stem}", *REQUIRED.get(name_of(file), [])))
    if file.parent.name == "model":
        assert config.model.name == file.stem
    if file.parent.name == "task":
        assert config.task.name == file.stem


def launch_commands(file: Path) -> list[str]:
    comments = re.findall(r"^# ?(.*)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = [re.search(r"python -m adapter_exp\.run\b(.*)", line) for line in comments]
    return [match[1].partition("  #")[0].strip() for match in found if match]


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_the_launch_command_in_a_header_works(file: Path):
    commands = launch_commands(file)
    assert commands, f"{file} does not say how to launch it"
    for command in commands:
        words = shlex.split(command)
        flags = [word for word in words if "=" not in word]
        given = [word for word in words if "=" in word]
        if flags == ["-m"]:
            jobs, searched = job_overrides(given)
            assert searched or len(jobs) > 1
            for overrides in jobs:  # each value of each axis once, not every combination
                if len(set(overrides) - set(jobs[0])) <= 1:
                    parse_config(composed(*overrides))
        else:
            assert flags in ([], ["--cfg", "job"])
            parse_config(composed(*given))


def job_overrides(given: list[str]) -> tuple[list[list[str]], bool]:
    """The jobs of a command line with -m, as Hydra's sweeper makes them, and whether they are a search's ends."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        fixed = [override for override in given if not is_range(override)]
        sweeper = compose("config", overrides=fixed, return_hydra_config=True).hydra.sweeper
    own = [override for override in given if not override.startswith(("hydra.", "hydra/", "resume_sweep="))]
    typed = [*(f"{key}={value}" for key, value in (sweeper.params or {}).items()), *own]
    if "n_trials" in sweeper:
        return corners(*read_ranges(typed)), True
    return BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(typed), None)[0], False


def is_range(override: str) -> bool:
    return OverridesParser.create().parse_overrides([override])[0].is_sweep_override()


@pytest.mark.parametrize("file", SWEEPS, ids=name_of)
def test_a_sweep_runs_without_a_flag_and_has_three_seeds(file: Path):
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        hydra = compose("config", overrides=[f"experiment={file.stem}"], return_hydra_config=True).hydra
    assert hydra.mode.name == "MULTIRUN"
    if "n_trials" in hydra.sweeper:
        assert hydra.sweeper.storage == f"sqlite:///{hydra.sweep.dir}/study.db"
    else:
        assert hydra.sweeper.params.seed == "0,1,2"
    names = {key for overrides in job_overrides([f"experiment={file.stem}"])[0] for key in map(key_of, overrides)}
    assert len(names) >= 2


def key_of(override: str) -> str:
    return override.partition("=")[0]


def test_the_arms_of_the_published_comparison_differ_as_they_say():
    jobs, _ = job_overrides(["experiment=published_comparison"])
    configs = [parse_config(composed(*overrides)) for overrides in jobs]
    assert len({config.sha256 for config in configs}) == len(configs) == 15
    arms = {(config.adapter.kind, config.quantization.kind) for config in configs}
    assert arms == {("none", "nf4"), ("lora", "nf4"), ("mlp", "nf4"), ("lora_mlp", "nf4"), ("full", "none")}
    with torch.device("meta"):
        shape = shape_of(AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", **SMOLLM2)))
    counts = {c.adapter.kind: count_parameters(c.adapter, shape) for c in configs if c.quantization.kind == "nf4"}
    assert counts == {"none": 0, "lora": 4_884_480, "mlp": 4_444_800, "lora_mlp": 4_673_280}
    budgets = {config.trainer.model_copy(update={"learning_rate": 0.0}).model_dump_json() for config in configs}
    assert len(budgets) == 1


@pytest.mark.parametrize("file", sorted((CONF / "hydra" / "launcher").glob("*.yaml")), ids=name_of)
def test_a_launcher_is_one_of_hydras_with_the_ledger_around_it(file: Path):
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        launcher = compose("config", overrides=[f"hydra/launcher={file.stem}"], return_hydra_config=True).hydra.launcher
    plugins = Plugins.instance()
    assert launcher._target_.endswith(".SweepLauncher")
    assert launcher._target_ in plugins.class_name_to_class
    assert launcher.inner._target_ in plugins.class_name_to_class
    assert type(plugins._instantiate(launcher)).__name__ == "SweepLauncher"


@pytest.mark.parametrize("name", ["tpe", "random"])
def test_a_sampler_is_one_of_optunas(name: str):
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
        overrides = ["hydra/sweeper=optuna", f"hydra/sweeper/sampler={name}"]
        sweeper = compose("config", overrides=overrides, return_hydra_config=True).hydra.sweeper
    assert instantiate(sweeper.sampler).__module__.startswith("optuna.samplers")


@pytest.mark.parametrize("file", [file for file in FILES if file.parent != CONF], ids=name_of)
def test_a_header_launches_its_own_file(file: Path):
    text = " ".join(launch_commands(file))
    defaults = {"trainer/default", "eval/default"}
    group = file.parent.relative_to(CONF).as_posix()
    assert f"{group}={file.stem}" in text.split() or name_of(file) in defaults


def test_every_task_has_settings_for_evaluation():
    files = {file.stem for file in (CONF / "task").glob("*.yaml")}
    assert files == set(task_names())
    tasks = composed()["eval"]["tasks"]
    assert set(tasks) == files
    for name in files:
        assert tasks[name] == composed(f"task={name}")["task"]


def schema_defaults(section: Any) -> dict[str, Any]:
    fields = type(section).model_fields.items()
    return {name: field.get_default(call_default_factory=True) for name, field in fields if not field.is_required()}


# Presets that differ from the schema on purpose, and what each run chooses for itself.
CHOSEN = {
    "adapter/dora": {"dora"},
    "adapter/lora_mlp": set(),
    "adapter/saved": set(),
    "trainer/smoke": {"max_steps", "batch_size", "warmup_ratio", "scheduler"},
    "quantization/int8": {"kind"},
    "quantization/none": {"kind"},
    "tracking/none": {"kind"},
}
COMPARED = ("adapter", "quantization", "trainer", "eval", "tracking")


@pytest.mark.parametrize("file", [file for file in GROUP_FILES if file.parent.name in COMPARED], ids=name_of)
def test_a_value_in_the_files_is_the_schemas_default(file: Path):
    config = parse_config(composed(f"{file.parent.name}={file.stem}", *REQUIRED.get(name_of(file), [])))
    section = getattr(config, file.parent.name)
    given = schema_defaults(section)
    given.pop("tasks", None)
    different = {name for name, value in given.items() if getattr(section, name) != value}
    assert different == CHOSEN.get(name_of(file), set())


def test_the_root_files_values_are_the_schemas_defaults():
    config = parse_config(composed())
    for name, field in Config.model_fields.items():
        if not field.is_required():
            assert getattr(config, name) == field.default, name
