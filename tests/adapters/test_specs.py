"""What the specs accept, and that every shipped YAML file agrees with them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import TypeAdapter, ValidationError

from adapter_exp.adapters.specs import AdapterSpec, FullSpec, LoraMlpSpec, LoraSpec, MlpSpec, NoneSpec, SavedSpec

CONF = Path(__file__).parents[2] / "conf"


def parse(data: dict[str, Any]) -> Any:
    return TypeAdapter(AdapterSpec).validate_python(data)


def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return parse(OmegaConf.to_container(compose("config", overrides=list(overrides)).adapter))


@pytest.mark.parametrize(
    ("adapter", "expected"),
    [
        ("lora", LoraSpec()),
        ("dora", LoraSpec(dora=True)),
        ("mlp", MlpSpec()),
        ("lora_mlp", LoraMlpSpec()),
        ("full", FullSpec()),
        ("none", NoneSpec()),
    ],
)
def test_yaml_defaults_are_the_specs_defaults(adapter: str, expected: object) -> None:
    assert composed(f"adapter={adapter}") == expected


def test_every_yaml_file_is_tested_above() -> None:
    assert {path.stem for path in (CONF / "adapter").glob("*.yaml")} == {
        "lora", "dora", "mlp", "lora_mlp", "full", "none", "saved",
    }  # fmt: skip


def test_overrides_reach_both_parts_and_words_survive() -> None:
    spec = composed("adapter=lora_mlp", "adapter.lora.r=8", "adapter.mlp.layers=last:4", "adapter.lora.layers=[6,0,6]")
    assert spec == LoraMlpSpec(lora=LoraSpec(r=8, layers=(0, 6)), mlp=MlpSpec(layers="last:4"))
    assert composed("adapter=mlp", "adapter.layers=every:6").layers == "every:6"
    assert composed("adapter=saved", "adapter.path=runs/a").path == SavedSpec(path="runs/a").path


@pytest.mark.parametrize(
    "fault",
    [
        {"r": True},
        {"r": "x"},
        {"r": "16"},
        {"r": 0},
        {"r": 1.5},
        {"alpha": True},
        {"alpha": 0},
        {"alpha": float("nan")},
        {"dropout": 1.0},
        {"dropout": "0.1"},
        {"dora": 1},
        {"dora": "yes"},
        {"target_modules": "q_proj"},
        {"target_modules": []},
        {"target_modules": ["q_proj", "q_proj"]},
        {"layers": 3},
        {"layers": "last"},
        {"layers": None},
        {"rank": 4},
    ],
)
def test_wrong_values_are_refused(fault: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        parse({"kind": "lora", **fault})
    assert len(caught.value.errors()) == 1


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ValidationError, match="lora_mlp"):
        parse({"kind": "lroa"})


def test_checking_a_configuration_imports_no_torch() -> None:
    code = (
        "import sys; from adapter_exp.adapters import check_spec, count_parameters, read_manifest;"
        "from adapter_exp.adapters.specs import *; from adapter_exp.models.shape import ModelShape;"
        "s = ModelShape('m', 4, 8, {'q_proj': (8, 8)}, 16, 100);"
        "specs = (LoraSpec(), MlpSpec(), LoraMlpSpec(), FullSpec(), NoneSpec());"
        "[check_spec(spec, s, quantization='none') for spec in specs];"
        "assert not {'torch', 'peft', 'transformers'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
