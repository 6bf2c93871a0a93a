"""Faults that show before any weights are loaded."""

from __future__ import annotations

from pathlib import Path

from adapter_exp.adapters import check_spec
from adapter_exp.adapters.specs import FullSpec, LoraMlpSpec, LoraSpec, MlpSpec, NoneSpec, SavedSpec

from .cases import TINY


def test_every_fault_is_one_line_with_its_key() -> None:
    spec = LoraSpec(r=100, layers="last:40", target_modules=("q_porj", "k_proj"))
    faults = check_spec(spec, TINY, quantization="none")
    assert [fault.split(":")[0] for fault in faults] == ["adapter.layers", "adapter.target_modules", "adapter.r"]
    assert not any("\n" in fault for fault in faults)
    layers, modules, rank = faults
    assert "last:4 or fewer" in layers
    assert "Did you mean" in modules and "q_proj" in modules and "down_proj" in modules
    assert "k_proj (64 to 32)" in rank and "Use 32 or less" in rank


def test_the_largest_rank_is_the_smaller_side() -> None:
    assert check_spec(LoraSpec(r=32), TINY, quantization="nf4") == []
    [fault] = check_spec(LoraSpec(r=33), TINY, quantization="nf4")
    assert fault.startswith("adapter.r: 33 is more than the smaller side of k_proj (64 to 32) in tiny. Use 32 or less")
    assert "leave k_proj, v_proj out" in fault


def test_parts_of_lora_mlp_are_named() -> None:
    spec = LoraMlpSpec(lora=LoraSpec(layers=(4,)), mlp=MlpSpec(layers="first:5"))
    faults = check_spec(spec, TINY, quantization="none", prefix="adapter")
    assert [fault.split(":")[0] for fault in faults] == ["adapter.lora.layers", "adapter.mlp.layers"]


def test_full_needs_an_unquantised_base() -> None:
    assert check_spec(FullSpec(), TINY, quantization="none") == []
    (fault,) = check_spec(FullSpec(), TINY, quantization="nf4")
    assert "gradient updates" in fault and "quantization=none" in fault and "adapter=lora" in fault


def test_dora_on_int8_is_refused() -> None:
    (fault,) = check_spec(LoraSpec(dora=True), TINY, quantization="int8")
    assert fault.startswith("adapter.dora: ") and "nf4" in fault


def test_none_is_always_fine() -> None:
    assert check_spec(NoneSpec(), TINY, quantization="int8") == []


def test_a_saved_adapter_that_is_not_there(tmp_path: Path) -> None:
    (fault,) = check_spec(SavedSpec(path=str(tmp_path / "gone")), TINY, quantization="none")
    assert fault.startswith("adapter.path: ") and "gone" in fault
