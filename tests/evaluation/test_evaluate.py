from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from importlib.metadata import version

import numpy as np
import pytest
from toy_task import LABELS, ToyTask

from adapter_exp.errors import UserError
from adapter_exp.evaluation.choices import score_continuations
from adapter_exp.evaluation.decoding import Decoding
from adapter_exp.evaluation.evaluate import Evaluation, evaluate, evaluation_key, summarise
from adapter_exp.evaluation.generation import generate
from adapter_exp.evaluation.predictions import read_predictions, write_predictions

TASK = ToyTask()
EXAMPLES = TASK.load("test")
KEY_FACTS = {
    "checkpoint_sha256": "c",
    "quantization": "none",
    "compute_dtype": "float32",
    "device": "cpu",
    "decoding": None,
    "batch_size": 4,
}


def renderer_of(tokenizer, task=TASK, *, chat=True):
    from adapter_exp.data.rendering import Renderer

    return Renderer(tokenizer, system=task.system, chat=chat, max_length=256)


@pytest.fixture(scope="module")
def renderer(tiny_tokenizer):
    return renderer_of(tiny_tokenizer)


def run(model, tokenizer, renderer, task=TASK, examples=EXAMPLES, **options) -> Evaluation:
    return evaluate(model, tokenizer, renderer, task, examples, **({"batch_size": 4, "resamples": 200} | options))


@pytest.fixture(scope="module")
def result(llama, tiny_tokenizer, renderer) -> Evaluation:
    return run(llama, tiny_tokenizer, renderer)


def test_answers_reach_the_items_that_they_belong_to(llama, tiny_tokenizer, renderer, result):
    from adapter_exp.data.fingerprint import item_hash

    for example, row in zip(EXAMPLES, result.predictions, strict=True):
        user = TASK.prompt(example)
        prompt = renderer.prompt_ids(user)
        text = generate(llama, tiny_tokenizer, [prompt], Decoding(6, ("\n",)), end_ids=renderer.end_ids, batch_size=1)[
            0
        ]
        answers = [[renderer.answer_ids(user, label) for label in LABELS], [renderer.answer_ids(user, example.word)]]
        scores = score_continuations(llama, tiny_tokenizer, [prompt, prompt], answers, batch_size=1)
        assert (row.id, row.group, row.input, row.target) == (example.id, example.group, user, TASK.target(example))
        assert (row.response, row.new_tokens) == (text.text, text.new_tokens)
        assert row.logprobs[0] == pytest.approx(scores[0], abs=1e-4)
        assert row.logprobs[1] == pytest.approx(scores[1], abs=1e-4)
        assert row.statistics["tokens"] == len(answers[1][0])
        assert row.item_hash == item_hash("toy", {"word": example.word})
        assert row.prompt_hash == hashlib.sha256(json.dumps(prompt).encode()).hexdigest()[:16]
        assert row.milliseconds > 0


def test_summary(result):
    rows = result.predictions
    assert result.metrics["accuracy_loglik"].value == np.mean([row.prediction == row.target for row in rows])
    nats, tokens = (sum(row.statistics[key] for row in rows) for key in ("nats", "tokens"))
    assert result.metrics["perplexity"].value == pytest.approx(math.exp(nats / tokens))
    assert result.metrics["perplexity"].low < result.metrics["perplexity"].value < result.metrics["perplexity"].high
    assert result.generated_tokens == sum(row.new_tokens for row in rows) > 0
    assert result.unparsed == len(rows), "a random model does not answer in labels"
    assert result.seconds > 0
    assert result.outcomes[2].statistics == rows[2].statistics


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batch_size_changes_no_answer(llama, tiny_tokenizer, renderer, result, batch_size):
    other = run(llama, tiny_tokenizer, renderer, batch_size=batch_size)
    for left, right in zip(other.predictions, result.predictions, strict=True):
        assert (left.response, left.prediction) == (right.response, right.prediction)
        assert left.logprobs[0] == pytest.approx(right.logprobs[0], abs=1e-4)


def test_several_samples(llama, tiny_tokenizer):
    task = ToyTask(samples=3)
    renderer = renderer_of(tiny_tokenizer, task)
    with pytest.raises(UserError, match=r"eval\.temperature: '0' makes all 3 samples that task toy asks for equal"):
        run(llama, tiny_tokenizer, renderer, task)
    drawn = run(llama, tiny_tokenizer, renderer, task, decoding=Decoding(6, temperature=3.0))
    assert all(len(set(row.response)) == 3 for row in drawn.predictions)


def test_progress_counts_every_request(llama, tiny_tokenizer, renderer):
    seen: list[tuple[int, int]] = []
    run(llama, tiny_tokenizer, renderer, on_progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (6 * 4, 6 * 4)  # one text, two labels and one perplexity for each of six items
    assert seen == sorted(seen) and len(seen) > 2


def test_no_examples(llama, tiny_tokenizer, renderer):
    with pytest.raises(UserError, match="task toy: there are no examples"):
        run(llama, tiny_tokenizer, renderer, examples=[])


def test_predictions_survive_the_file(tmp_path, result):
    path = tmp_path / "toy.base.jsonl"
    rows = [dataclasses.replace(result.predictions[0], response="две\u2028строки\n", prediction={"a": [1]})]
    rows += [dataclasses.replace(row, response=["a", "b"]) for row in result.predictions[1:]]
    write_predictions(path, rows)
    assert read_predictions(path) == rows
    assert len(path.read_text(encoding="utf-8").split("\n")) == len(rows) + 1
    again = summarise(TASK, result.predictions, seconds=result.seconds, resamples=200)
    assert again == result


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[:-20], r"toy\.jsonl:6: the last line is cut off"),
        (lambda text: text.replace("\n", "\n{\n", 1), r"toy\.jsonl:2: the line: Invalid JSON"),
        (lambda text: text.replace('"item_hash"', '"hash"', 1), r"toy\.jsonl:1: item_hash: Field required"),
    ],
)
def test_a_damaged_file_names_the_line(tmp_path, result, damage, words):
    path = tmp_path / "toy.jsonl"
    write_predictions(path, result.predictions)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError, match=words):
        read_predictions(path)


def test_an_absent_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"gone\.jsonl: cannot be read"):
        read_predictions(tmp_path / "gone.jsonl")


def test_no_file_holds_nan(tmp_path, result):
    row = dataclasses.replace(result.predictions[0], statistics={"x": float("nan")})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_predictions(tmp_path / "x.jsonl", [row])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "facts",
    [
        {"checkpoint_sha256": "d"},
        {"quantization": "nf4"},
        {"compute_dtype": "bfloat16"},
        {"device": "cuda"},
        {"decoding": Decoding(5, ("\n",))},
        {"decoding": Decoding(6, ("\n",), repetition_penalty=1.1)},
    ],
)
def test_key_moves_with_the_settings(renderer, facts):
    key = evaluation_key(renderer, TASK, EXAMPLES, **KEY_FACTS)
    assert evaluation_key(renderer, TASK, EXAMPLES, **(KEY_FACTS | facts)) != key


@pytest.mark.parametrize(
    "task", [ToyTask(version=2), ToyTask(samples=2), ToyTask(system="?"), ToyTask(stop=()), ToyTask(max_new_tokens=7)]
)
def test_key_moves_with_the_task(tiny_tokenizer, renderer, task):
    key = evaluation_key(renderer, TASK, EXAMPLES, **KEY_FACTS)
    assert evaluation_key(renderer_of(tiny_tokenizer, task), task, EXAMPLES, **KEY_FACTS) != key


def test_key_moves_with_items_and_chat_and_not_with_what_changes_no_score(tiny_tokenizer, renderer):
    key = evaluation_key(renderer, TASK, EXAMPLES, **KEY_FACTS)
    assert evaluation_key(renderer, TASK, EXAMPLES[:-1], **KEY_FACTS) != key
    assert evaluation_key(renderer_of(tiny_tokenizer, chat=False), TASK, EXAMPLES, **KEY_FACTS) != key
    same = {"batch_size": 8, "compute_dtype": "torch.float32", "device": "cpu:0", "decoding": Decoding(6, ("\n",))}
    assert evaluation_key(renderer, TASK, EXAMPLES, **(KEY_FACTS | same)) == key


@pytest.mark.parametrize("library", ["torch", "transformers", "bitsandbytes"])
def test_key_moves_with_the_libraries(renderer, monkeypatch, library):
    key = evaluation_key(renderer, TASK, EXAMPLES, **KEY_FACTS)
    monkeypatch.setattr(
        "adapter_exp.evaluation.evaluate.version", lambda name: "0.0.0" if name == library else version(name)
    )
    assert evaluation_key(renderer, TASK, EXAMPLES, **KEY_FACTS) != key


@pytest.mark.parametrize("facts", [{"compute_dtype": "bfloat16"}, {"quantization": "int8"}])
def test_key_moves_with_the_batch_size_where_scores_do(renderer, facts):
    keys = {evaluation_key(renderer, TASK, EXAMPLES, **(KEY_FACTS | facts | {"batch_size": size})) for size in (4, 8)}
    assert len(keys) == 2
