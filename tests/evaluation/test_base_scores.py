"""The base's kept answers: read when nothing that can change them has changed, and never otherwise."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from experiment_samples import config

from adapter_exp.data import fingerprint
from adapter_exp.data.fingerprint import code_sha256
from adapter_exp.evaluation.base_scores import FOLDER, base_predictions, cache_key
from adapter_exp.evaluation.predictions import Prediction
from adapter_exp.experiment import run_experiment

ROW = Prediction("1", "hash", "group", "prompt", "in", "out", "out", "out", True, {"right": 1.0}, [], 1, 2.0)
KEY = {"double_quant": True, "processor": "x86_64 AVX2"}


def from_cache(root: Path, name: str, *more: str) -> dict[str, bool]:
    data = run_experiment(config(root, "adapter=none", *more), root / "outputs" / name)
    found: dict[str, bool] = data["evaluation"]["base_from_cache"]
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds the small experiment's base answers."""
    root = tmp_path_factory.mktemp("scores")
    assert from_cache(root, "first") == {"nerus": False, "terra": False}
    return root


def test_an_equal_run_reads_them_whatever_its_adapter_and_seed(root: Path) -> None:
    assert from_cache(root, "again", "seed=7", "adapter=none", "eval.resamples=200") == {"nerus": True, "terra": True}


@pytest.mark.parametrize(
    "change",
    [
        "model.seed=1",
        "model.chat=never",
        "quantization=none",
        "quantization.double_quant=false",
        "quantization=int8",
    ],
)
def test_another_base_does_not(root: Path, change: str) -> None:
    assert from_cache(root, change.replace("=", "-"), change) == {"nerus": False, "terra": False}


@pytest.mark.parametrize(
    "change",
    ["task.system=Otherwise.", "task.max_new_tokens=5", "task.max_eval=3", "task.stop=[x]"],
)
def test_another_task_does_not_and_the_other_one_does(root: Path, change: str) -> None:
    assert from_cache(root, change.replace("=", "-").strip("."), change) == {"nerus": False, "terra": True}


def test_another_processor_or_other_code_has_a_key_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [cache_key("k", **KEY), cache_key("l", **KEY), cache_key("k", double_quant=False, processor="x86_64 AVX2")]
    keys.append(cache_key("k", double_quant=True, processor="NVIDIA H100"))
    package = tmp_path / "adapter_exp"
    shutil.copytree(fingerprint.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    assert code_sha256(package) == code_sha256()
    with (package / "tasks" / "metrics.py").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert code_sha256(package) != code_sha256()
    changed = code_sha256(package)
    monkeypatch.setattr("adapter_exp.evaluation.base_scores.code_sha256", lambda: changed)
    keys.append(cache_key("k", **KEY))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("damage", ["", "{", '{"id": 1}\n'])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: str) -> None:
    assert base_predictions(tmp_path, "k", lambda: [ROW]) == ([ROW], False)
    (tmp_path / FOLDER / "k.jsonl").write_text(damage)
    assert base_predictions(tmp_path, "k", lambda: [ROW]) == ([ROW], False)
    assert base_predictions(tmp_path, "k", list) == ([ROW], True)


def test_two_that_want_them_at_once_make_them_once(tmp_path: Path) -> None:
    made = []

    def make() -> list[Prediction]:
        made.append(1)
        return [ROW]

    threads = [threading.Thread(target=base_predictions, args=(tmp_path, "k", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_an_evaluation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        base_predictions(tmp_path, "k", lambda: [ROW] * (1 // 0))
    assert base_predictions(tmp_path, "k", lambda: [ROW]) == ([ROW], False)
