"""The commands and links of the READMEs are real: they compose, are valid, and lead somewhere."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep
from omegaconf import OmegaConf

from adapter_exp.adapters import check_spec
from adapter_exp.adapters.specs import LoraSpec
from adapter_exp.config import Config, parse_config
from adapter_exp.files import conf_folder
from adapter_exp.models.memory import KNOWN

REPOSITORY = Path(__file__).parents[1]
READMES = ("README.md", "README.ru.md")
# What a user has to fill in, and what stands for it here.
PLACEHOLDERS = {"OWNER/NAME": "owner/name", "DIR": "folder"}


def _text(name: str) -> str:
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def _commands(pattern: str) -> list[str]:
    """What follows ``pattern`` in code blocks and in inline code, each once."""
    found = [match for name in READMES for match in re.findall(rf"{pattern}([^`\n]*)", _text(name))]
    return list(dict.fromkeys(command.partition("  #")[0].strip() for command in found))


def _overrides() -> list[str]:
    given = [*_commands(r"python -m adapter_exp\.run"), *_commands("make run ARGS=")]
    made = [shlex.split(one)[0] if one.startswith('"') else one for one in given]
    return [one for one in dict.fromkeys(made) if one and "--" not in one and one != "..."]


def _single_settings() -> list[str]:
    """``key=value`` words in tables, which stand in inline code of their own."""
    words = []
    for name in READMES:
        rows = [line for line in _text(name).splitlines() if line.startswith("|")]
        for code in (code for row in rows for code in re.findall(r"`([^`]+)`", row)):
            if re.fullmatch(r"(?:[a-z][\w.]*=\S+ ?)+", code) and not code.startswith("'") and "..." not in code:
                words.append(code)
    return list(dict.fromkeys(words))


def _composed(overrides: str) -> Config:
    for name, value in PLACEHOLDERS.items():
        overrides = re.sub(rf"={name}\b", f"={value}", overrides)
    words = shlex.split(overrides)
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return parse_config(OmegaConf.to_container(compose("config", words), resolve=True))


def _check_adapter(config: Config) -> list[str]:
    """Faults of the adapter on the model's shape; a saved adapter's folder is not there."""
    shapes = {known.shape.name: known.shape for known in KNOWN}
    if config.adapter.kind == "saved" or config.model.name not in shapes:
        return []
    return check_spec(config.adapter, shapes[config.model.name], quantization=config.quantization.kind)


def _with_its_adapter(setting: str) -> str:
    """A single setting of an MLP, or of full fine-tuning, needs its group beside it."""
    if re.search(r"adapter\.(hidden_dim|placement|mode|init)=", setting):
        return f"adapter=mlp {setting}"
    return setting


@pytest.mark.parametrize("overrides", _overrides())
def test_every_run_command_is_valid(overrides: str):
    words = shlex.split(overrides.removeprefix("-m "))
    assert _check_adapter(_composed(shlex.join(map(_of_first_job, words)))) == []


def _of_first_job(word: str) -> str:
    """An override as the first job of a sweep has it."""
    override = OverridesParser.create().parse_override(word)
    if not override.is_sweep_override():
        return word
    values = override.value()
    first = values.list[0] if isinstance(values, ChoiceSweep) else values.start
    return f"{override.get_key_element()}={first}"


@pytest.mark.parametrize("setting", _single_settings())
def test_every_setting_in_a_table_is_valid(setting: str):
    assert _check_adapter(_composed(_with_its_adapter(setting))) == []


def test_the_readmes_hold_commands_to_check():
    assert len(_overrides()) > 10
    assert len(_single_settings()) > 20


def test_the_readme_quotes_an_error_as_it_is():
    smollm2 = next(known.shape for known in KNOWN if known.shape.name == "smollm2_135m")
    [fault] = check_spec(LoraSpec(layers="last:40"), smollm2, quantization="nf4")
    assert f"\n    error: {fault}\n" in _text("README.md")


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    named = {target for name in READMES for target in re.findall(r"(?:^|`)make ([a-z-]+)", _text(name), re.MULTILINE)}
    assert {"run", "test", "ui", "model-gemma"} <= named <= targets


def test_every_module_that_is_run_exists():
    named = {module for name in READMES for module in re.findall(r"python -m ([\w.]+)", _text(name))}
    assert "adapter_exp.generate" in named
    assert [module for module in sorted(named) if importlib.util.find_spec(module) is None] == []


@pytest.mark.parametrize("arguments", _commands(r"python -m adapter_exp\.generate"))
def test_every_generate_command_is_understood(arguments: str):
    from adapter_exp.generate import _parser

    assert _parser().parse_args(shlex.split(arguments)).prompt


@pytest.mark.parametrize("name", READMES)
def test_every_linked_file_exists(name: str):
    links = [
        link for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", _text(name))) if "://" not in link
    ]
    assert links
    assert [link for link in links if not (REPOSITORY / link.partition("#")[0]).exists()] == []


@pytest.mark.parametrize("name", READMES)
def test_the_two_commands_come_first(name: str):
    block = re.search(r"```bash\n(.*?)```", _text(name), flags=re.DOTALL)
    assert block is not None
    assert [line.split()[:2] for line in block[1].splitlines()] == [["make", "run"], ["make", "test"]]
