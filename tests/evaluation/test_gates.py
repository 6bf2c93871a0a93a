from __future__ import annotations

import json
import re

import pytest
from safetensors.numpy import save_file

from adapter_exp.evaluation import gates
from adapter_exp.evaluation.gates import Gate, Supervision, count_supervision
from adapter_exp.evaluation.predictions import Prediction

GOOD = Supervision(rows=100, truncated=0, unsupervised=0, with_end=100)


def row(**changes) -> Prediction:
    values = {
        "id": "1",
        "item_hash": "h",
        "group": "g",
        "prompt_hash": "p",
        "input": "q",
        "target": "t",
        "response": "r",
        "prediction": None,
        "parsed": True,
        "statistics": {"right": 1.0},
        "logprobs": [[-1.0, -2.0]],
        "new_tokens": 1,
        "milliseconds": 1.0,
    }
    return Prediction(**(values | changes))


def overlap(train_hashes, train_groups) -> Gate:
    return gates.overlap(
        "t",
        train_hashes=train_hashes,
        evaluation_hashes=["a", "b", "c"],
        train_groups=train_groups,
        evaluation_groups=["d1", "d2", "d2"],
    )


CASES = [
    (gates.one_label("t", ["yes", "no", "yes"]), True, "3 evaluation items have 2 distinct"),
    (gates.one_label("t", ["yes", "yes"]), False, "2 evaluation items have 1 distinct"),
    (gates.majority("t", "base", "f1", 0.51, {"f1": 0.5}), True, "f1 is 0.5100, the best trivial answer reaches 0.5"),
    (gates.majority("t", "base", "f1", 0.5, {"f1": 0.5}), False, "0.5000"),
    (gates.majority("t", "base", "perplexity", 9.0, {}), True, "no trivial baseline"),
    (overlap(["x"], ["d9"]), True, "0 of 3 evaluation items are training items; 0 of 2 groups"),
    (overlap(["x"], ["d2"]), True, "1 of 2 groups"),
    (overlap(["b"], ["d9"]), False, "1 of 3 evaluation items"),
    (gates.truncated_targets(Supervision(100, 1, 0, 99)), True, "1 of 100"),
    (gates.truncated_targets(Supervision(100, 2, 0, 98)), False, "2 of 100"),
    (gates.all_masked(GOOD), True, "0 of 100"),
    (gates.all_masked(Supervision(100, 1, 1, 99)), False, "1 of 100"),
    (gates.eos_unsupervised(Supervision(100, 1, 0, 99)), True, "99 training rows"),
    (gates.eos_unsupervised(Supervision(100, 1, 0, 98)), False, "98 training rows"),
    (gates.eos_unsupervised(Supervision(2, 2, 0, 0)), False, "0 training rows"),
    (gates.parse_failures("t", "adapted", 2, 10), True, "2 of 10"),
    (gates.parse_failures("t", "adapted", 3, 10), False, "3 of 10 answers could not be read (limit 20%)"),
    (gates.base_changed("a" * 64, "a" * 64), True, "aaaaaaaaaaaa before"),
    (gates.base_changed("a" * 64, "b" * 64), False, "they changed"),
    (gates.loss_exploding([2.0, 1.0, 0.5]), True, "from 2.0000 to 0.5000"),
    (gates.loss_exploding([2.0, 3.0, 4.1]), False, "limit 2.0x"),
    (gates.loss_exploding([2.0, float("nan"), 1.0]), False, "logged loss 1 is nan"),
    (gates.loss_exploding([float("inf")]), False, "logged loss 0 is inf"),
    (gates.loss_exploding([1.0]), True, "too few"),
    (gates.loss_not_falling([3.0, 2.0, 2.5]), True, "from 3.0000 to 2.5000"),
    (gates.loss_not_falling([2.0, 1.0, 2.0]), False, "from 2.0000 to 2.0000"),
    (gates.loss_not_falling([2.0, float("nan")]), False, "nan"),
    (gates.loss_not_falling([]), True, "0 logged"),
    (gates.adapter_without_effect("t", [row()], [row(milliseconds=9.0)]), False, "0 of 1"),
    (gates.adapter_without_effect("t", [row()], [row(response="s")]), True, "1 of 1"),
    (gates.adapter_without_effect("t", [row()], [row(logprobs=[[-1.0, -2.5]])]), True, "1 of 1"),
    (gates.bytes_mismatch(400, 100, 4), True, "100 parameters x 4 take 400"),
    (gates.bytes_mismatch(404, 100, 4), False, "404 bytes"),
]


@pytest.mark.parametrize(("gate", "passed", "words"), CASES)
def test_gate(gate, passed, words):
    assert gate.passed is passed
    assert words in gate.reason


def test_smoothing_forgives_one_noisy_batch():
    losses = [2.0 - 0.01 * k for k in range(100)]
    losses[-1] = 9.0
    assert gates.loss_not_falling(losses).passed
    assert gates.loss_exploding(losses).passed


def test_supervision_is_counted_on_the_labels_of_the_loss():
    labels = [[-100, 5, 2], [-100, 5, 6], [-100, -100, -100], [-100, 5, -100]]
    counts = count_supervision(labels, [False, True, False, False], end_ids={2})
    assert counts == Supervision(rows=4, truncated=1, unsupervised=1, with_end=1)
    assert not gates.eos_unsupervised(counts).passed, "the last row masks its end token, as pad = eos does"


def test_saved_tensor_bytes_leave_headers_out(tmp_path):
    import numpy as np

    (tmp_path / "mlp").mkdir()
    save_file({"a": np.zeros((3, 5), np.float32), "b": np.zeros(7, np.float16)}, tmp_path / "x.safetensors")
    save_file({"c": np.zeros(2, np.float32)}, tmp_path / "mlp" / "y.safetensors")
    assert gates.saved_tensor_bytes(tmp_path) == 60 + 14 + 8


def test_a_reason_can_be_told_in_another_language():
    """The numbers of every failed gate's sentence stand in its values, as JSON can hold them."""
    for gate, passed, _ in CASES:
        if not passed:
            told = json.dumps(dict(gate.values), allow_nan=gate.name == "loss_not_falling")
            assert gate.values, gate.name
            for number in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.%])", gate.reason):
                rounded = {f"{value:.4f}" for value in gate.values.values() if isinstance(value, float)}
                assert number in told or number in rounded, (gate.name, number)
