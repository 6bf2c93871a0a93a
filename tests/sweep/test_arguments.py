"""The command line of a sweep that goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapter_exp.errors import UserError
from adapter_exp.sweep.arguments import resumed_arguments


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    former = ["--multirun", "adapter.r=4,8", "+task.new=1", "seed=0,1", "resume_sweep=old"]
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
    assert resumed_arguments([*given, own]) == ["-m", *expected, own]


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_folder_without_a_sweep_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(UserError, match="resume_sweep"):
        resumed_arguments([f"resume_sweep={tmp_path}"])


def test_null_is_no_sweep() -> None:
    assert resumed_arguments(["-m", "resume_sweep=null", "seed=0"]) == ["-m", "resume_sweep=null", "seed=0"]
