"""The contract that every adapter keeps, over the table in ``cases``. A new kind is one row there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from adapter_exp.adapters import attach, check_spec, count_parameters, load
from adapter_exp.adapters.shapes import shape_of
from adapter_exp.errors import UserError

from .cases import BASE, CASES, TINY, Case, base_tensors, checkpointed, gradients, load_tiny, logits, train

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
ROUNDING = 1e-5


@each_case
def test_starts_as_the_base_where_its_init_says_so(case: Case, model: Any) -> None:
    base = logits(model)
    attached = attach(model, case.spec)
    change = (logits(model) - base).abs().max().item()
    attached.detach()
    if not case.identity_at_init:
        assert change > ROUNDING
    elif getattr(case.spec, "dora", False):
        assert change < ROUNDING  # DoRA divides a norm by itself
    else:
        assert change == 0


@each_case
def test_gradients_reach_all_of_its_own_parameters_and_no_others(case: Case, model: Any) -> None:
    attached = attach(model, case.spec)
    own = attached.parameters()
    train(attached, steps=1)
    with_gradient = {key for key, value in gradients(model).items() if value.abs().max() > 0}
    wanting = {key for key, value in model.named_parameters() if value.requires_grad}
    attached.detach()
    assert with_gradient == wanting == own.keys()
    assert all(parameter.dtype == torch.float32 for parameter in own.values())


@each_case
def test_training_and_detaching_leave_the_base_bit_equal(case: Case, model: Any) -> None:
    weights, output = base_tensors(model), logits(model)
    attached = attach(model, case.spec)
    train(attached)
    trained = logits(model)
    with attached.disabled():
        disabled = logits(model)
    again = logits(model)
    attached.detach()
    after = base_tensors(model)
    assert not torch.allclose(trained, output, atol=1e-3)
    assert torch.equal(disabled, output)
    assert torch.equal(again, trained)
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[key], value) for key, value in weights.items())
    assert torch.equal(logits(model), output)


@each_case
def test_parameter_count_is_the_closed_formula(case: Case, model: Any) -> None:
    attached = attach(model, case.spec)
    counted, lowest = attached.trainable_parameters(), attached.lowest_layer()
    attached.detach()
    assert check_spec(case.spec, TINY, quantization="none") == []
    assert counted == count_parameters(case.spec, TINY)
    assert lowest == case.lowest_layer


@each_case
def test_saved_adapter_gives_equal_logits_on_a_fresh_model(
    case: Case, model: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    attached = attach(model, case.spec)
    train(attached)
    trained = logits(model)
    attached.save(tmp_path / "adapter", base=BASE)
    attached.detach()
    fresh = load_tiny(tiny_folder)
    again = load(fresh, tmp_path / "adapter", name="other", base_sha256=BASE["sha256"])
    assert again.spec == case.spec
    assert torch.equal(logits(fresh), trained)


@pytest.mark.slow
def test_saved_adapters_give_equal_logits_in_a_fresh_process(model: Any, tiny_folder: Path, tmp_path: Path) -> None:
    expected = {}
    for name, case in CASES.items():
        attached = attach(model, case.spec)
        train(attached)
        expected[name] = logits(model)
        attached.save(tmp_path / name, base=BASE)
        attached.detach()
    subprocess.run([sys.executable, "-c", _LOAD_ALL, str(tiny_folder), str(tmp_path), *CASES], check=True)
    found = torch.load(tmp_path / "logits.pt", weights_only=True)
    assert all(torch.equal(found[name], expected[name]) for name in CASES)


_LOAD_ALL = """
import sys
from pathlib import Path
import torch
from transformers import AutoModelForCausalLM
from adapter_exp.adapters import load

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).requires_grad_(False).eval()
ids = torch.arange(2 * 12).reshape(2, 12) * 7 % 256
mask = torch.ones_like(ids)
mask[1, 9:] = 0
logits = {}
for name in sys.argv[3:]:
    attached = load(model, Path(sys.argv[2]) / name, base_sha256=None)
    with torch.no_grad():
        logits[name] = model(input_ids=ids, attention_mask=mask).logits
    attached.detach()
torch.save(logits, Path(sys.argv[2]) / "logits.pt")
"""


@each_case
def test_holds_on_a_quantised_base(case: Case, quantized: tuple[Any, str]) -> None:
    model, stored = quantized
    if stored == "int8" and getattr(case.spec, "dora", False):
        with pytest.raises(UserError, match=r"^adapter\.dora: "):
            attach(model, case.spec, quantization=stored)
        return
    weights, output = base_tensors(model), logits(model)
    attached = attach(model, case.spec, quantization=stored)
    change = (logits(model) - output).abs().max().item()
    with_gradient = gradients(model).keys()
    own = attached.parameters().keys()
    train(attached, steps=2)
    trained = logits(model)
    with attached.disabled():
        disabled = logits(model)
    known_to_trainer = model._hf_peft_config_loaded
    count = attached.trainable_parameters()
    attached.detach()
    after = base_tensors(model)
    assert change < ROUNDING if case.identity_at_init else change > ROUNDING
    assert with_gradient == own
    assert not torch.allclose(trained, output, atol=1e-3)
    assert torch.equal(disabled, output)
    assert torch.equal(logits(model), output)
    assert all(torch.equal(after[key], value) for key, value in weights.items())
    assert known_to_trainer
    assert not model._hf_peft_config_loaded
    assert count == count_parameters(case.spec, TINY)


@each_case
def test_gradients_are_equal_under_activation_checkpointing(case: Case, model: Any) -> None:
    attached = attach(model, case.spec)
    train(attached, steps=1)
    plain = gradients(model)
    with checkpointed(model):
        recomputed = gradients(model)
    attached.detach()
    assert plain.keys() == recomputed.keys()
    assert all(torch.allclose(recomputed[key], value, atol=1e-7, rtol=1e-5) for key, value in plain.items())


@each_case
def test_two_names_live_side_by_side(case: Case, model: Any) -> None:
    output = logits(model)
    first = attach(model, case.spec, name="first")
    train(first)
    as_first = logits(model)
    second = attach(model, case.spec, name="second")
    train(second, steps=5)
    as_second = logits(model)
    first.activate()
    back = logits(model)
    trains = {key for key, value in model.named_parameters() if value.requires_grad}
    second.activate("second")
    again = logits(model)
    own = first.parameters().keys()
    first.detach()
    alone = logits(model)
    second.detach()
    assert torch.equal(back, as_first)
    assert torch.equal(again, as_second)
    assert torch.equal(alone, as_second)
    assert not torch.equal(as_first, as_second)
    assert trains == own
    assert torch.equal(logits(model), output)


def test_shape_of_the_tiny_model(model: Any) -> None:
    shape = shape_of(model)
    assert (shape.num_layers, shape.hidden_size, dict(shape.linears)) == (4, 64, dict(TINY.linears))
    assert shape.parameters == TINY.parameters
