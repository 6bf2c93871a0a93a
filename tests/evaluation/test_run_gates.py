from __future__ import annotations

import dataclasses

import pytest
from toy_task import ToyTask

from adapter_exp.evaluation.evaluate import Evaluation, summarise
from adapter_exp.evaluation.gates import Supervision
from adapter_exp.evaluation.predictions import Prediction
from adapter_exp.evaluation.run_gates import TaskEvidence, TrainingEvidence, TrainingItems, run_gates

TASK = ToyTask()
ITEMS = {"toy": TrainingItems(frozenset({"elsewhere"}), frozenset({"g9"}))}
TRAINING = TrainingEvidence(
    supervision=Supervision(rows=10, truncated=0, unsupervised=0, with_end=10),
    losses=[2.0, 1.5, 1.0],
    base_sha256_before="a",
    base_sha256_after="a",
    tensor_bytes=40,
    parameters=10,
    bytes_per_parameter=4,
)
TRAINING_GATES = {"truncated_targets", "all_masked", "eos_unsupervised", "loss_exploding", "loss_not_falling"}
WEIGHT_GATES = {"base_changed", "bytes_mismatch"}


def evaluation(right: int, *, unparsed: int = 0, response: str = "short") -> Evaluation:
    """Eight items, half of them short, of which the first ``right`` are answered rightly."""
    rows = [
        Prediction(
            id=str(k),
            item_hash=f"h{k}",
            group=f"g{k % 4}",
            prompt_hash="p",
            input="q",
            target="short" if k % 2 else "long",
            response=response,
            prediction="short",
            parsed=k >= unparsed,
            statistics={
                "right_generated": 0.0,
                "right_loglik": float(k < right),
                "short": float(k % 2),
                "nats": 1.0,
                "tokens": 1.0,
            },
            logprobs=[[-1.0, -2.0]],
            new_tokens=1,
            milliseconds=1.0,
        )
        for k in range(8)
    ]
    return summarise(TASK, rows, seconds=1.0, resamples=50)


BASE, ADAPTED = evaluation(4, response="?"), evaluation(7)


def failed(
    kind="lora", *, base=BASE, adapted=ADAPTED, training=TRAINING, items=ITEMS
) -> set[tuple[str, str | None, str | None]]:
    found = run_gates(kind, [TaskEvidence(TASK, base, adapted)], training, items)
    return {(gate.name, gate.task, gate.model) for gate in found if not gate.passed}


def test_a_sound_run_fails_only_what_its_base_model_fails():
    assert failed() == {("majority", "toy", "base")}


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"supervision": Supervision(10, 5, 0, 5)}, ("truncated_targets", None, "adapted")),
        ({"supervision": Supervision(10, 0, 1, 10)}, ("all_masked", None, "adapted")),
        ({"supervision": Supervision(10, 0, 0, 0)}, ("eos_unsupervised", None, "adapted")),
        ({"losses": [1.0, 1.0]}, ("loss_not_falling", None, "adapted")),
        ({"base_sha256_after": "b"}, ("base_changed", None, None)),
        ({"tensor_bytes": 44}, ("bytes_mismatch", None, "adapted")),
    ],
)
def test_a_fault_in_training_fails_its_gate(change, gate):
    training = dataclasses.replace(TRAINING, **change)
    assert failed(training=training) == {("majority", "toy", "base"), gate}
    passed_over = {"base_changed", "bytes_mismatch"} if gate[0] in WEIGHT_GATES else set()
    assert (gate in failed("full", training=training)) is (gate[0] not in passed_over)


def test_a_fault_in_the_answers_fails_its_gate():
    assert ("parse_failures", "toy", "adapted") in failed(adapted=evaluation(7, unparsed=2))
    assert ("majority", "toy", "adapted") in failed(adapted=evaluation(4))
    assert ("adapter_without_effect", "toy", "adapted") in failed(adapted=BASE)


@pytest.mark.parametrize("training", [TRAINING, None])
def test_an_item_that_was_trained_on_is_told_in_this_run_and_for_a_saved_adapter(training):
    items = {"toy": TrainingItems(frozenset({"h3"}), frozenset())}
    assert ("overlap", "toy", None) in failed("lora" if training else "saved", training=training, items=items)


@pytest.mark.parametrize(
    ("kind", "training", "adapted", "absent"),
    [
        ("lora", TRAINING, ADAPTED, set()),
        ("full", TRAINING, ADAPTED, WEIGHT_GATES),
        ("saved", None, ADAPTED, TRAINING_GATES | WEIGHT_GATES),
        ("none", None, None, TRAINING_GATES | WEIGHT_GATES | {"overlap", "adapter_without_effect"}),
    ],
)
def test_which_gates_apply(kind, training, adapted, absent):
    everything = TRAINING_GATES | WEIGHT_GATES
    everything |= {"overlap", "one_label", "majority", "parse_failures", "adapter_without_effect"}
    found = run_gates(kind, [TaskEvidence(TASK, BASE, adapted)], training, None if kind == "none" else ITEMS)
    assert {gate.name for gate in found} == everything - absent
