"""Every shipped YAML is a valid model; wrong values name their key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from adapter_exp.models.fetch_gemma import GEMMA
from adapter_exp.models.specs import ModelConfig, QuantizationConfig

CONF = Path(__file__).parents[2] / "conf"
MODELS: TypeAdapter = TypeAdapter(ModelConfig)


@pytest.mark.parametrize("file", sorted((CONF / "model").glob("*.yaml")), ids=lambda f: f.stem)
def test_shipped_model_is_valid_and_named_after_its_file(file: Path):
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    missing = [key for key, value in values.items() if value == "???"]
    model = MODELS.validate_python(values | dict.fromkeys(missing, "some/where"))
    assert model.name == file.stem
    assert f"model={file.stem}" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize("file", sorted((CONF / "quantization").glob("*.yaml")), ids=lambda f: f.stem)
def test_shipped_quantization_is_valid_and_named_after_its_file(file: Path):
    assert QuantizationConfig.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))).kind == file.stem


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"source": "web", "name": "a"}, "source"),
        ({"source": "hub", "name": "a", "id": "two words"}, "id"),
        ({"source": "hub", "name": "../a", "id": "o/m"}, "name"),
        ({"source": "hub", "name": "a", "id": "o/m", "max_length": 15}, "max_length"),
        ({"source": "hub", "name": "a", "id": "o/m", "dtype": "fp16"}, "dtype"),
        ({"source": "hub", "name": "a", "id": "o/m", "trust_remote_code": True}, "trust_remote_code"),
        ({"source": "folder", "name": "a", "path": "  "}, "path"),
        ({"source": "wheel", "name": "a", "package": "p"}, "assembler"),
        ({"source": "wheel", "name": "a", "package": "p", "file": "f", "assembler": "g"}, "not both"),
        ({"source": "wheel", "name": "a", "package": "os", "assembler": "remove"}, "assembler: 'remove' of os"),
        (
            {"source": "wheel", "name": "a", "package": GEMMA.package, "assembler": "main"},
            "allowed: 'assemble' of gemma",
        ),
        ({"source": "wheel", "name": "a", "package": "parent.child", "file": "f"}, "package"),
        ({"source": "wheel", "name": "a", "package": "__main__", "file": "f"}, "package"),
        ({"source": "tiny", "hidden_size": 60}, "hidden_size: 60"),
        ({"source": "tiny", "num_attention_heads": 8, "num_key_value_heads": 3}, "num_attention_heads: 8"),
    ],
)
def test_wrong_model_names_the_key(values: dict, key: str):
    with pytest.raises(ValidationError, match=key):
        MODELS.validate_python(values)


def test_specs_are_frozen():
    model = MODELS.validate_python({"source": "tiny"})
    with pytest.raises(ValidationError, match="frozen"):
        model.seed = 1
