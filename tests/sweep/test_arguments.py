"""The command line of a sweep that goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from adapter_exp.errors import UserError
from adapter_exp.sweep.arguments import resumed_arguments


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    former = ["--multirun", "hydra.sweep.dir=s", "adapter.r=4,8", "+task.new=1", "seed=0,1", "resume_sweep=old"]
    (tmp_path / "sweep.json").write_text(json.dumps({"arguments": former, "mlflow": {}}))
    return tmp_path


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["adapter.r=4,8", "+task.new=1", "seed=0,1"]),
        (["-m", "hydra/launcher=joblib"], ["adapter.r=4,8", "+task.new=1", "seed=0,1", "hydra/launcher=joblib"]),
        (["-m", "seed=0,1,2"], ["adapter.r=4,8", "+task.new=1", "seed=0,1,2"]),
        (["++task.new=2", "adapter.r=4,8", "seed=0,1"], ["++task.new=2", "adapter.r=4,8", "seed=0,1"]),
    ],
)
def test_former_overrides_stand_unless_given_anew(folder: Path, given: list[str], expected: list[str]) -> None:
    own = f"resume_sweep={folder}"
    assert resumed_arguments([*given, own]) == ["-m", *expected, f"resume_sweep='{folder}'"]


@pytest.mark.parametrize("name", ["a b", "а,б", "r=4", "it's", "$(x)"])
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_any_path_is_read_as_hydra_writes_it(folder: Path, name: str, quote: str) -> None:
    moved = folder / name
    moved.mkdir()
    shutil.copy(folder / "sweep.json", moved)
    told = resumed_arguments([f"resume_sweep={quote}{moved}{quote}"])[-1]
    read = OverridesParser.create().parse_override(told)
    assert (read.key_or_group, read.value()) == ("resume_sweep", str(moved))


def test_its_own_folder_may_be_given_too(folder: Path) -> None:
    told = resumed_arguments([f"resume_sweep={folder}", f"hydra.sweep.dir={folder}"])
    assert f"hydra.sweep.dir={folder}" in told and "hydra.sweep.dir=s" not in told


def test_another_folder_beside_it_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"hydra\.sweep\.dir"):
        resumed_arguments([f"resume_sweep={folder}", "hydra.sweep.dir=other"])


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_without_a_sweep_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(UserError, match="resume_sweep"):
        resumed_arguments([f"resume_sweep={tmp_path}"])


def test_null_is_no_sweep() -> None:
    assert resumed_arguments(["-m", "resume_sweep=null", "seed=0"]) == ["-m", "resume_sweep=null", "seed=0"]
