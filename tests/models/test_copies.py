"""The copy of unpacked weights: the numbers of the fresh path, verified, and read without bitsandbytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from adapter_exp.files import sha256_file
from adapter_exp.models import base as module
from adapter_exp.models import copies
from adapter_exp.models.base import Base, load_base, release_base
from adapter_exp.models.copies import copy_folder, has_room
from adapter_exp.models.specs import QuantizationConfig, TinyModel
from adapter_exp.models.weights import weights_sha256

IDS = torch.arange(1, 33)[None]


@pytest.fixture(autouse=True)
def _release() -> Iterator[None]:
    yield
    release_base()


def load(cache_dir: Path, keep: str = "dequantised", **settings: bool) -> Base:
    release_base()
    quantization = QuantizationConfig(kind="nf4", keep=keep, **settings)
    return load_base(TinyModel(dtype="float32"), quantization, cache_dir=cache_dir, device="cpu")


def weight_files(cache_dir: Path) -> list[Path]:
    return sorted((cache_dir / copies.FOLDER).glob("*/*.safetensors"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds a copy."""
    cache_dir = tmp_path_factory.mktemp("cache")
    load(cache_dir)
    return cache_dir


def test_it_has_the_numbers_of_the_fresh_path(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [file] = weight_files(filled)
    stamp = file.stat().st_mtime_ns
    copied = load(filled)
    assert file.stat().st_mtime_ns == stamp  # read, not made again
    assert weights_sha256(copied.model) == copied.weights_sha256
    monkeypatch.setattr(module, "has_room", lambda *_: False)
    fresh = load(filled)
    assert fresh.weights_sha256 == copied.weights_sha256 and fresh.kept == copied.kept
    assert torch.equal(fresh.model(IDS).logits, copied.model(IDS).logits)
    assert fresh.model.generation_config.to_dict() == copied.model.generation_config.to_dict()
    assert fresh.model.config.to_dict().keys() == copied.model.config.to_dict().keys()


@pytest.mark.parametrize("damage", ["flip", "cut", "delete"])
def test_a_damaged_copy_is_made_again(damage: str, filled: Path, tmp_path: Path) -> None:
    cache_dir = shutil.copytree(filled, tmp_path / "cache")
    [file] = weight_files(cache_dir)
    expected = sha256_file(file)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.unlink()
    if damage != "delete":
        file.write_bytes(data if damage == "flip" else data[:-8])
    base = load(cache_dir)
    assert sha256_file(file) == expected and weights_sha256(base.model) == base.weights_sha256


def test_no_copy_where_there_is_no_room_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_room(tmp_path, 1000)
    assert not has_room(tmp_path, copies.LIMIT_BYTES + 1)
    usage = shutil.disk_usage(tmp_path)._replace(free=2999)
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda path: usage)
    assert not has_room(tmp_path, 1000)
    base = load(tmp_path)
    assert base.kept == "dequantised" and not weight_files(tmp_path)
    assert weights_sha256(base.model) == base.weights_sha256


def test_a_disk_that_fails_costs_the_copy_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(model: object, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_copy", full)
    base = load(tmp_path)
    assert base.kept == "dequantised" and not weight_files(tmp_path)


def test_other_numbers_have_a_copy_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def folder(sha256: str = "a", double_quant: bool = True, dtype: str = "float32", device: str = "cpu") -> Path:
        quantization = QuantizationConfig(double_quant=double_quant)
        return copy_folder(Path("cache"), "m", sha256, quantization, dtype=dtype, device=device)

    found = {folder(), folder("b"), folder(double_quant=False), folder(dtype="bfloat16"), folder(device="cuda")}
    monkeypatch.setattr(copies, "version", lambda library: "0")
    assert len(found | {folder()}) == 6


def test_packed_weights_make_no_copy(tmp_path: Path) -> None:
    load(tmp_path, "4bit")
    assert not weight_files(tmp_path)


_TRAIN = """
import sys
from pathlib import Path
from experiment_samples import config
from adapter_exp.experiment import run_experiment
root = Path(sys.argv[1])
for number, adapter in enumerate((["adapter=lora"], ["adapter=dora"], ["adapter=mlp"])):
    run_experiment(config(root, "trainer.max_steps=1", "tracking=none", *adapter), root / str(number))
    print([name for name in ("bitsandbytes", "datasets", "pandas") if name in sys.modules])
run_experiment(config(root, "trainer.max_steps=1", "tracking=none", "quantization.keep=4bit"), root / "packed")
print("bitsandbytes" in sys.modules)
run_experiment(config(root, "trainer.max_steps=1", "tracking=none"), root / "again")
"""


@pytest.mark.slow
def test_training_on_a_copy_never_imports_bitsandbytes_and_packed_weights_still_can(tmp_path: Path) -> None:
    load(tmp_path / "cache")  # makes the copy
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _TRAIN, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("[") or line in ("True", "False")]
    assert told == ["[]", "[]", "[]", "True"]
