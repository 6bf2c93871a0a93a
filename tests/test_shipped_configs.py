"""Every file below conf/ composes, is valid, and says what it says about itself."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from adapter_exp.config import Config, parse_config
from adapter_exp.files import conf_folder
from adapter_exp.tasks.registry import task_names

CONF = conf_folder()
FILES = sorted(CONF.rglob("*.yaml"))
GROUP_FILES = [file for file in FILES if file.parent != CONF]
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
        assert flags in ([], ["--cfg", "job"])
        parse_config(composed(*(word for word in words if "=" in word)))


@pytest.mark.parametrize("file", [file for file in GROUP_FILES if file.parent.name != "experiment"], ids=name_of)
def test_a_header_launches_its_own_file(file: Path):
    text = " ".join(launch_commands(file))
    defaults = {"trainer/default", "eval/default"}
    assert f"{file.parent.name}={file.stem}" in text.split() or name_of(file) in defaults


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
    "trainer/smoke": {"max_steps", "gradient_accumulation_steps", "warmup_ratio", "scheduler"},
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
