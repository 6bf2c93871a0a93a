"""Weights that are unpacked once give the numbers of packed ones, bit for bit, and the run says how they are kept."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment_samples import config
from pydantic import ValidationError

from adapter_exp.adapters import attach
from adapter_exp.adapters.specs import LoraMlpSpec, LoraSpec, MlpSpec
from adapter_exp.experiment import run_experiment
from adapter_exp.models import dequantise as module
from adapter_exp.models import free_memory
from adapter_exp.models.base import Base, load_base, prove_unchanged, release_base
from adapter_exp.models.dequantise import choose_keep, dequantise
from adapter_exp.models.memory import KNOWN, estimate
from adapter_exp.models.specs import QuantizationConfig, TinyModel
from adapter_exp.models.weights import base_tensors, weight_bytes, weights_sha256

IDS = torch.arange(1, 65).reshape(2, 32)
SPECS: dict[str, Any] = {
    "lora": LoraSpec(r=4),
    "dora": LoraSpec(r=4, dora=True, layers="last:2"),
    "mlp": MlpSpec(hidden_dim=8, placement="both", init="normal"),
    "lora_mlp": LoraMlpSpec(lora=LoraSpec(r=4), mlp=MlpSpec(hidden_dim=8)),
}


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _release() -> Iterator[None]:
    yield
    release_base()


def load(cache_dir: Path, keep: str, **settings: Any) -> Base:
    quantization = QuantizationConfig(kind="nf4", keep=keep, **settings)
    return load_base(TinyModel(dtype="float32"), quantization, cache_dir=cache_dir, device="cpu")


def numbers(base: Base, spec: Any) -> list[torch.Tensor]:
    """Logits without an adapter, then logits and adapter gradients of a training step with one."""
    with torch.no_grad():
        found = [base.model(IDS).logits]
    torch.manual_seed(0)
    attached = attach(base.model, spec, quantization=base.quantization)
    with torch.no_grad():  # LoRA's zero matrix would hide the gradients of the other one
        for parameter in attached.parameters().values():
            parameter.add_(0.01 * torch.randn_like(parameter))
    base.model.train()
    logits = base.model(IDS).logits
    logits.square().mean().backward()
    found += [logits.detach(), *(value.grad.clone() for value in attached.parameters().values())]
    attached.detach()
    base.model.eval()
    return found


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("double_quant", [True, False])
def test_logits_and_adapter_gradients_are_equal_to_the_bit(spec: Any, double_quant: bool, cache_dir: Path) -> None:
    packed = numbers(load(cache_dir, "4bit", double_quant=double_quant), spec)
    unpacked = numbers(load(cache_dir, "dequantised", double_quant=double_quant), spec)
    assert len(packed) == len(unpacked) > 2
    assert all(torch.equal(one, other) for one, other in zip(packed, unpacked, strict=True))
    assert all(gradient.abs().sum() > 0 for gradient in unpacked[2:])


def test_unpacked_weights_are_the_quantised_ones_not_the_checkpoint(cache_dir: Path) -> None:
    unpacked = load(cache_dir, "dequantised").model(IDS).logits
    whole = load_base(TinyModel(dtype="float32"), QuantizationConfig(kind="none"), cache_dir=cache_dir, device="cpu")
    assert not torch.equal(unpacked, whole.model(IDS).logits)


def test_the_model_is_plain_frozen_and_in_eval_mode(cache_dir: Path) -> None:
    base = load(cache_dir, "dequantised")
    assert (base.quantization, base.kept) == ("nf4", "dequantised")
    linears = [m for m in base.model.modules() if isinstance(m, torch.nn.Linear)]
    assert len(linears) == 4 * 7 + 1 and {type(m) for m in linears} == {torch.nn.Linear}
    assert not any(m.training for m in base.model.modules())
    assert not any(p.requires_grad for p in base.model.parameters())
    assert not getattr(base.model, "is_quantized", False) and not hasattr(base.model.config, "quantization_config")


def test_the_base_is_proven_unchanged_and_a_change_is_found(cache_dir: Path) -> None:
    base = load(cache_dir, "dequantised")
    numbers(base, SPECS["lora_mlp"])
    prove_unchanged(base)
    with torch.no_grad():
        base.model.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-6
    with pytest.raises(RuntimeError, match="not those that were loaded"):
        prove_unchanged(base)


def test_sizes_and_names_are_those_of_the_plain_model(cache_dir: Path) -> None:
    base = load(cache_dir, "dequantised")
    assert weight_bytes(base.model) == 4 * base.shape.parameters
    sizes = [
        estimate(
            base.shape,
            quantization="nf4",
            trainable=0,
            batch=1,
            length_tokens=1,
            answer_tokens=1,
            dtype="float32",
            vocabulary=261,
            dequantised=dequantised,
        ).weights
        for dequantised in (True, False)
    ]
    assert sizes[0] == weight_bytes(base.model) > sizes[1]
    names, unpacked = {name for name, _ in base_tensors(base.model)}, weights_sha256(base.model)
    plain = load_base(TinyModel(dtype="float32"), QuantizationConfig(kind="none"), cache_dir=cache_dir, device="cpu")
    assert names == {name for name, _ in base_tensors(plain.model)}
    assert weights_sha256(plain.model) != unpacked


@pytest.mark.parametrize("double_quant", [True, False])
def test_one_layer_at_a_time_is_unpacked(double_quant: bool, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = load(cache_dir, "4bit", double_quant=double_quant)
    packed = [weakref.ref(m.weight) for m in base.model.modules() if hasattr(m, "quant_state")]
    make, left = module._plain, []

    def counting(layer: Any) -> torch.nn.Linear:
        gc.collect()
        left.append(sum(weight() is not None for weight in packed))
        return make(layer)

    monkeypatch.setattr(module, "_plain", counting)
    dequantise(base.model)
    assert left == list(range(len(packed), 0, -1)) and len(packed) == 28


GIGABYTE = 10**9
SMOLLM2, LLAMA = KNOWN[0].shape, KNOWN[-1].shape


@pytest.mark.parametrize(
    ("shape", "dtype", "free_gb", "kept"),
    [
        (SMOLLM2, torch.float32, 16, "dequantised"),  # 0.37 GB more
        (SMOLLM2, torch.float32, 1.7, "dequantised"),
        (SMOLLM2, torch.float32, 1.6, "4bit"),
        (SMOLLM2, torch.float32, 0, "4bit"),
        (LLAMA, torch.bfloat16, 80, "dequantised"),  # 10.4 GB more
        (LLAMA, torch.bfloat16, 40, "4bit"),
    ],
)
def test_auto_follows_the_free_memory(
    shape: Any, dtype: torch.dtype, free_gb: float, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda device: round(free_gb * GIGABYTE))
    chosen, why = choose_keep(QuantizationConfig(), shape, dtype, torch.device("cpu"))
    assert chosen == kept
    assert why is not None and f"{free_gb:.1f} GB are free" in why and "\n" not in why


def test_auto_says_what_it_chose_and_a_given_choice_needs_no_note(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "unpacked once" in "\n".join(load(cache_dir, "auto").notes)
    monkeypatch.setattr(module, "free_bytes", lambda device: 0)
    release_base()
    base = load(cache_dir, "auto")
    assert base.kept == "4bit" and "kept in 4 bits" in "\n".join(base.notes)
    assert "nf4" not in "\n".join(load(cache_dir, "dequantised").notes)


@pytest.mark.parametrize(("kind", "kept"), [("int8", "8bit"), ("none", "whole")])
def test_other_quantisations_have_nothing_to_choose(kind: str, kept: str, cache_dir: Path) -> None:
    assert load_base(TinyModel(), QuantizationConfig(kind=kind), cache_dir=cache_dir, device="cpu").kept == kept
    with pytest.raises(ValidationError, match=f"keep: '4bit' is for nf4 weights, these are '{kind}'"):
        QuantizationConfig(kind=kind, keep="4bit")


def test_a_container_with_a_limit_has_what_the_limit_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(free_memory, "CGROUP", tmp_path)
    unlimited = free_memory.free_bytes(torch.device("cpu"))
    assert unlimited > 0
    files = {"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 5\ninactive_file 200\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert free_memory.free_bytes(torch.device("cpu")) == 500
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory.free_bytes(torch.device("cpu")) > 10**6


def test_the_record_says_how_weights_were_kept_and_the_base_is_scored_once(tmp_path: Path) -> None:
    records = {}
    for keep in ("dequantised", "4bit"):
        settings = config(tmp_path, f"quantization.keep={keep}")
        records[keep] = run_experiment(settings, tmp_path / keep)
    assert {keep: one["model"]["kept"] for keep, one in records.items()} == {keep: keep for keep in records}
    sizes = [one["model"]["weight_bytes"] for one in records.values()]
    assert sizes[0] > sizes[1]
    assert records["4bit"]["config_hash"] == records["dequantised"]["config_hash"]  # the numbers are the same
    assert records["4bit"]["evaluation"]["base_from_cache"] == {"nerus": True, "terra": True}
    for part in ("training", "evaluation"):
        parts = [{k: v for k, v in one[part].items() if k not in VARIES} for one in records.values()]
        assert parts[0] == parts[1] and parts[0]


VARIES = ("tokens_per_s", "base_from_cache")
