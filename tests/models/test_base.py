"""Loading: frozen, quiet, one per process, exact under each quantisation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapter_exp.errors import UserError
from adapter_exp.models import quantization
from adapter_exp.models.base import load_base, release_base
from adapter_exp.models.specs import FolderModel, QuantizationConfig, TinyModel
from adapter_exp.models.weights import weights_sha256

KINDS = ("none", "nf4", "int8")


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _release():
    yield
    release_base()


def _load(cache_dir: Path, kind: str = "none", **model: object):
    return load_base(TinyModel(**model), _packed(kind), cache_dir=cache_dir, device="cpu")


def _packed(kind: str) -> QuantizationConfig:
    """Weights as the kind stores them; for nf4 weights that are unpacked once see test_dequantise.py."""
    return QuantizationConfig(kind=kind, keep="4bit" if kind == "nf4" else "auto")


@pytest.mark.parametrize("kind", KINDS)
def test_base_is_frozen_and_close_to_full_precision(kind: str, cache_dir: Path):
    import torch

    ids = torch.arange(1, 33)[None]
    plain = _load(cache_dir).model(ids).logits
    base = _load(cache_dir, kind)
    assert base.quantization == kind and base.device.type == "cpu"
    assert not base.model.training and not any(p.requires_grad for p in base.model.parameters())
    assert type(base.model.lm_head) is torch.nn.Linear
    with torch.no_grad():
        logits = base.model(ids).logits
    relative = ((logits - plain).norm() / plain.norm()).item()
    assert relative == 0 if kind == "none" else 0 < relative < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_scoring_first_changes_neither_weights_nor_gradients(kind: str, cache_dir: Path):
    # bitsandbytes repacks 4-bit weights at the first evaluation on a CPU with AVX512-BF16: without a backward pass.
    import torch

    base = _load(cache_dir, kind)
    before = weights_sha256(base.model)
    ids = torch.arange(1, 33)[None]
    embeddings = base.model.get_input_embeddings()(ids)

    def gradient() -> torch.Tensor:
        leaf = embeddings.detach().clone().requires_grad_()
        base.model(inputs_embeds=leaf).logits.square().sum().backward()
        assert leaf.grad is not None
        return leaf.grad

    expected = gradient()
    with torch.no_grad():
        base.model(ids)
    assert torch.equal(gradient(), expected) and expected.abs().sum() > 0
    assert weights_sha256(base.model) == before


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_untied_vocabulary_projection_is_not_quantised(kind: str, tmp_path: Path):
    import torch

    from adapter_exp.models.tiny import write_tiny

    folder = write_tiny(tmp_path / "m", tie_word_embeddings=False)
    model = FolderModel(name="untied", path=str(folder))
    base = load_base(model, _packed(kind), cache_dir=tmp_path, device="cpu")
    assert type(base.model.lm_head) is torch.nn.Linear
    assert type(base.model.model.layers[0].mlp.up_proj) is not torch.nn.Linear


def test_same_arguments_same_object(cache_dir: Path):
    first = _load(cache_dir)
    assert _load(cache_dir) is first
    assert _load(cache_dir, seed=1) is not first
    assert _load(cache_dir) is not first  # one resident base: the other one pushed it out


def test_eviction_frees_the_former_base(cache_dir: Path):
    import weakref

    former = weakref.ref(_load(cache_dir).model)
    _load(cache_dir, seed=1)
    assert former() is None


def test_special_tokens_are_explained(cache_dir: Path):
    base = _load(cache_dir)
    assert base.tokenizer.pad_token == base.tokenizer.eos_token == "</s>"
    assert base.model.config.pad_token_id == base.tokenizer.pad_token_id
    notes = "\n".join(base.notes)
    assert "Pad token: none in the tokenizer" in notes and "Compute dtype float32" in notes
    same = "\n".join(_load(cache_dir, pad_token="</s>").notes)
    assert "the same as end of sequence" in same
    assert "Pad token: <s>." in "\n".join(_load(cache_dir, pad_token="<s>").notes)


def test_sampling_defaults_of_the_checkpoint_are_cleared(tmp_path: Path, tiny_folder: Path):
    import shutil

    folder = shutil.copytree(tiny_folder, tmp_path / "m")
    (folder / "generation_config.json").write_text(
        '{"do_sample": true, "temperature": 0.6, "top_p": 0.9, "eos_token_id": [257, 258], "repetition_penalty": 1.3}'
    )
    model = FolderModel(name="m", path=str(folder))
    config = load_base(model, QuantizationConfig(kind="none"), cache_dir=tmp_path, device="cpu").model.generation_config
    assert config.do_sample is False and config.eos_token_id == [257, 258]
    assert not {config.temperature, config.top_p, config.repetition_penalty} & {0.6, 0.9, 1.3}


def test_missing_weights_are_an_error_not_random_numbers(tmp_path: Path, tiny_folder: Path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_folder, tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 of its weights.*layers\.2\.mlp\.up_proj"):
        load_base(FolderModel(name="m", path=str(folder)), QuantizationConfig(), cache_dir=tmp_path, device="cpu")


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:99"])
def test_wrong_device_is_refused(device: str, cache_dir: Path):
    with pytest.raises(UserError, match=f"device: '{device}'"):
        load_base(TinyModel(), QuantizationConfig(kind="none"), cache_dir=cache_dir, device=device)


@pytest.mark.parametrize(
    ("times_ms", "dtype"), [((1.0, 8.0), "float32"), ((1.0, 0.9), "float32"), ((2.0, 1.0), "bfloat16")]
)
def test_cpu_dtype_follows_the_measurement(times_ms, dtype: str, monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(quantization, "matmul_ms", lambda: times_ms)
    chosen, reason = quantization.choose_dtype(torch.device("cpu"))
    assert chosen == getattr(torch, dtype)
    assert reason.startswith(dtype) and f"{times_ms[0]:.2f} ms" in reason and f"{times_ms[1]:.2f} ms" in reason


@pytest.mark.parametrize(("supported", "dtype"), [(True, "bfloat16"), (False, "float16")])
def test_cuda_dtype_follows_the_device(supported: bool, dtype: str, monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    chosen, reason = quantization.choose_dtype(torch.device("cuda"))
    assert chosen == getattr(torch, dtype) and "Some GPU" in reason


def test_asked_dtype_is_taken(cache_dir: Path):
    import torch

    assert _load(cache_dir, dtype="bfloat16").compute_dtype == torch.bfloat16


def test_a_busy_machine_computes_in_the_same_dtype_and_the_threads_are_left_alone():
    import torch

    def chosen() -> torch.dtype:
        quantization.matmul_ms.cache_clear()
        return quantization.choose_dtype(torch.device("cpu"))[0]

    threads = torch.get_num_threads()
    alone = chosen()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        assert [chosen() for _ in range(5)] == [alone] * 5
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert torch.get_num_threads() == threads
    assert all(ms > 0 for ms in quantization.matmul_ms())


_QUIET = """
import socket, sys
from pathlib import Path
def refuse(*args, **options):
    raise SystemExit("tried the network")
socket.socket.connect = socket.getaddrinfo = refuse
from adapter_exp.models.base import load_base
from adapter_exp.models.specs import QuantizationConfig, TinyModel
base = load_base(TinyModel(), QuantizationConfig(kind=sys.argv[2]), cache_dir=Path(sys.argv[1]), device="cpu")
base.model(base.tokenizer("x", return_tensors="pt")["input_ids"])
"""


@pytest.mark.slow
def test_other_process_loads_silently_without_the_network(cache_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    _load(cache_dir)  # fills the cache for the other process
    done = subprocess.run([sys.executable, "-c", _QUIET, str(cache_dir), "nf4"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
