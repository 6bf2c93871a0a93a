"""Saved adapters: the manifest, folders of other tools, damaged and foreign files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from adapter_exp.adapters import attach, count_parameters, load, read_manifest
from adapter_exp.adapters.mlp.tuner import BottleneckConfig
from adapter_exp.adapters.specs import LoraMlpSpec, LoraSpec, MlpSpec, SavedSpec
from adapter_exp.errors import UserError
from adapter_exp.files import sha256_file

from .cases import BASE, TINY, load_tiny, logits, train

WEIGHTS = "adapter_model.safetensors"
SPECS = {
    "lora": LoraSpec(r=4, alpha=7, layers="last:2", target_modules=("q_proj", "up_proj"), rslora=True),
    "dora": LoraSpec(r=2, dora=True),
    "mlp": MlpSpec(hidden_dim=8, layers=(0, 2), placement="both", mode="parallel", activation="silu"),
    "mlp-block": MlpSpec(hidden_dim=8),
}


@pytest.fixture
def saved(model: Any, tmp_path: Path) -> Path:
    """A trained LoRA's folder."""
    attached = attach(model, SPECS["lora"])
    train(attached)
    attached.save(tmp_path / "adapter", base=BASE | {"source": "owner/tiny"})
    attached.detach()
    return tmp_path / "adapter"


def refusal(model: Any, folder: Path, base_sha256: str | None = BASE["sha256"]) -> str:
    """The one line with which loading ``folder`` is refused; the model must be left bare."""
    before = logits(model)
    with pytest.raises(UserError) as caught:
        load(model, folder, base_sha256=base_sha256)
    assert not hasattr(model, "peft_config")
    assert torch.equal(logits(model), before)
    (fault,) = caught.value.faults
    assert "\n" not in fault
    return fault


def test_manifest_says_what_is_in_the_folder(saved: Path) -> None:
    manifest = read_manifest(saved)
    assert manifest.spec == SPECS["lora"]
    assert (manifest.base_name, manifest.base_sha256) == ("tiny", BASE["sha256"])
    assert manifest.quantization == "none"
    assert manifest.trainable_parameters == count_parameters(SPECS["lora"], TINY)
    assert manifest.trainable_parameters == count_parameters(SavedSpec(path=str(saved)), TINY)
    assert manifest.files == {WEIGHTS: sha256_file(saved / WEIGHTS)}
    assert {"torch", "peft", "transformers", "python"} <= manifest.versions.keys()
    assert json.loads((saved / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/tiny"


def test_equal_adapters_are_saved_as_equal_bytes(model: Any, tmp_path: Path) -> None:
    attached = attach(model, SPECS["lora"])
    for name in ("a", "b"):
        attached.save(tmp_path / name, base=BASE)
    attached.detach()
    for file in (WEIGHTS, "adapter_config.json", "adapter_exp.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_tokenizer_lies_beside_the_weights(model: Any, tiny_tokenizer: Any, tmp_path: Path) -> None:
    attached = attach(model, SPECS["mlp"])
    attached.save(tmp_path / "adapter", base=BASE, tokenizer=tiny_tokenizer)
    attached.detach()
    assert (tmp_path / "adapter" / "tokenizer.json").exists()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_peft_itself_loads_what_is_saved(spec: Any, model: Any, tiny_folder: Path, tmp_path: Path) -> None:
    attached = attach(model, spec)
    train(attached)
    trained = logits(model)
    attached.save(tmp_path / "adapter", base=BASE)
    attached.detach()
    assert torch.equal(logits(PeftModel.from_pretrained(load_tiny(tiny_folder), tmp_path / "adapter")), trained)


def test_peft_loads_each_part_of_lora_mlp(model: Any, tiny_folder: Path, tmp_path: Path) -> None:
    attached = attach(model, LoraMlpSpec(lora=SPECS["lora"], mlp=SPECS["mlp-block"]))
    attached.save(tmp_path / "adapter", base=BASE)
    attached.detach()
    keys = load_file(tmp_path / "adapter" / "lora" / WEIGHTS).keys()
    assert not any("base_layer" in key for key in keys)
    for part in ("lora", "mlp"):
        model_of_part = PeftModel.from_pretrained(load_tiny(tiny_folder), tmp_path / "adapter" / part)
        parameters = dict(model_of_part.named_parameters())
        for key, value in load_file(tmp_path / "adapter" / part / WEIGHTS).items():
            path, leaf = key.rsplit(".", 1)
            assert torch.equal(parameters[f"{path}.default.{leaf}"], value)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            LoraConfig(r=4, lora_alpha=6, target_modules=r".*\.self_attn\.(q|v)_proj", lora_dropout=0.1),
            LoraSpec(r=4, alpha=6, dropout=0.1, target_modules=("q_proj", "v_proj"), layers=(0, 1, 2, 3)),
        ),
        (
            LoraConfig(r=2, target_modules=["up_proj"], layers_to_transform=[3, 1], use_dora=True),
            LoraSpec(r=2, alpha=8, target_modules=("up_proj",), layers=(1, 3), dora=True),
        ),
        (BottleneckConfig(hidden_dim=8, layers=[2], init="normal"), MlpSpec(hidden_dim=8, layers=(2,), init="normal")),
    ],
    ids=["pattern", "dora", "bottleneck"],
)
def test_folders_of_other_tools_load(config: Any, expected: Any, model: Any, tiny_folder: Path, tmp_path: Path) -> None:
    other = get_peft_model(load_tiny(tiny_folder), config)
    with torch.no_grad():
        for parameter in other.parameters():
            if parameter.requires_grad:
                parameter.add_(0.03)
    trained = logits(other)
    other.save_pretrained(tmp_path / "plain")
    attached = load(model, tmp_path / "plain", base_sha256=BASE["sha256"])
    output = logits(model)
    attached.detach()
    assert read_manifest(tmp_path / "plain").spec == expected
    assert torch.allclose(output, trained, atol=1e-6)


def test_changed_weights_are_refused(saved: Path, model: Any) -> None:
    damaged = bytearray((saved / WEIGHTS).read_bytes())
    damaged[-1] ^= 1
    (saved / WEIGHTS).write_bytes(damaged)
    assert "damaged" in refusal(model, saved)


def test_another_base_is_refused_with_both_hashes(saved: Path, model: Any) -> None:
    fault = refusal(model, saved, base_sha256="f" * 64)
    assert BASE["sha256"] in fault and "f" * 64 in fault and "tiny" in fault


def test_pickles_are_refused(saved: Path, model: Any) -> None:
    torch.save(load_file(saved / WEIGHTS), saved / "adapter_model.bin")
    (saved / WEIGHTS).unlink()
    assert "pickle" in refusal(model, saved)
    (saved / "adapter_exp.json").unlink()
    assert "pickle" in refusal(model, saved)


def test_missing_weights_and_folders_are_refused(saved: Path, model: Any, tmp_path: Path) -> None:
    (saved / WEIGHTS).unlink()
    assert WEIGHTS in refusal(model, saved)
    assert "no such folder" in refusal(model, tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert "holds no saved adapter" in refusal(model, tmp_path / "empty")


def test_a_weights_file_that_the_manifest_does_not_list_is_refused(saved: Path, model: Any) -> None:
    manifest = json.loads((saved / "adapter_exp.json").read_text()) | {"files": {}}
    (saved / "adapter_exp.json").write_text(json.dumps(manifest))
    assert "not listed" in refusal(model, saved)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema_version": 99}', '{"schema_version": 1, "spec": {"kind": "lora"}}']
)
def test_a_damaged_manifest_is_refused(text: str, saved: Path, model: Any) -> None:
    (saved / "adapter_exp.json").write_text(text)
    assert "adapter_exp.json" in refusal(model, saved)


def _plain(saved: Path, tensors: dict[str, Any] | None = None, **config: Any) -> Path:
    """The folder as another tool would leave it, with other tensors or settings."""
    (saved / "adapter_exp.json").unlink()
    if tensors is not None:
        save_file(tensors, saved / WEIGHTS)
    path = saved / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return saved


def test_tensors_of_another_shape_are_refused_in_one_line(saved: Path, model: Any) -> None:
    tensors = {key: torch.zeros(4, 96) if "q_proj.lora_A" in key else value
               for key, value in load_file(saved / WEIGHTS).items()}  # fmt: skip
    fault = refusal(model, _plain(saved, tensors))
    assert "[4, 96]" in fault and "[4, 64]" in fault


def test_missing_and_unknown_tensors_are_refused(saved: Path, model: Any) -> None:
    tensors = load_file(saved / WEIGHTS)
    gone = next(key for key in tensors if "lora_B" in key)
    kept = {key: value for key, value in tensors.items() if key != gone}
    assert "lacks" in refusal(model, _plain(saved, kept))
    save_file(tensors | {"base_model.model.extra.lora_A.weight": torch.zeros(1)}, saved / WEIGHTS)
    assert "extra" in refusal(model, saved) or "modules" in refusal(model, saved)


@pytest.mark.parametrize(
    "config",
    [
        {"rank_pattern": {"q_proj": 2}},
        {"modules_to_save": ["lm_head"]},
        {"bias": "all"},
        {"peft_type": "IA3"},
        {"r": "four"},
        {"r": None},
    ],
)
def test_settings_that_no_kind_equals_are_refused(config: dict[str, Any], saved: Path, model: Any) -> None:
    assert "adapter_config.json" in refusal(model, _plain(saved, **config))


def test_a_plain_folder_that_is_damaged_is_refused(saved: Path, model: Any) -> None:
    _plain(saved)
    (saved / WEIGHTS).write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00garbage!")
    assert "damaged" in refusal(model, saved)
    (saved / "adapter_config.json").write_text("{")
    assert "not JSON" in refusal(model, saved)


def test_a_refused_load_leaves_the_active_adapter_alone(saved: Path, model: Any) -> None:
    first = attach(model, SPECS["mlp"], name="first")
    train(first)
    before = logits(model)
    tensors = {key: torch.zeros(4, 96) for key in load_file(saved / WEIGHTS)}
    with pytest.raises(UserError):
        load(model, _plain(saved, tensors), name="second", base_sha256=None)
    after = logits(model)
    first.detach()
    assert torch.equal(after, before)


def test_saving_replaces_a_folder_whole(saved: Path, model: Any) -> None:
    attached = attach(model, SPECS["mlp"])
    (saved / "stale.safetensors").write_bytes(b"")
    attached.save(saved, base=BASE)
    attached.detach()
    assert sorted(path.name for path in saved.iterdir()) == ["adapter_config.json", "adapter_exp.json", WEIGHTS]
