from __future__ import annotations

import random

import pytest

from adapter_exp.evaluation import choices
from adapter_exp.evaluation.choices import score_continuations
from tests.evaluation.speeds import PLAIN, SAVINGS


@pytest.fixture(scope="module")
def items() -> tuple[list[list[int]], list[list[list[int]]]]:
    draw = random.Random(1)

    def row(length: int) -> list[int]:
        return [draw.randrange(32, 127) for _ in range(length)]

    prompts = [row(n) for n in (1, 4, 9, 17, 6)]
    continuations = [[[*row(n), 257] for n in lengths] for lengths in ((0, 3), (1, 2), (12,), (2, 1, 5), (7, 7))]
    return prompts, continuations


def reference(model, prompt: list[int], continuation: list[int]) -> float:
    """Plain full-length log-softmax over one unpadded row."""
    import torch

    ids = torch.tensor([prompt + continuation])
    with torch.no_grad():
        logprobs = model(input_ids=ids).logits[0].double().log_softmax(-1)
    return sum(float(logprobs[len(prompt) + k - 1, token]) for k, token in enumerate(continuation))


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_equals_one_row_at_a_time(any_model, tiny_tokenizer, items, batch_size):
    prompts, continuations = items
    got = score_continuations(any_model, tiny_tokenizer, prompts, continuations, batch_size=batch_size)
    for prompt, group, scores in zip(prompts, continuations, got, strict=True):
        assert scores == pytest.approx([reference(any_model, prompt, one) for one in group], abs=1e-4)


def test_vocabulary_projection_runs_on_scored_positions_only(llama, tiny_tokenizer, items):
    prompts, _ = items
    widths: list[tuple[int, ...]] = []
    handle = llama.lm_head.register_forward_hook(lambda module, args, out: widths.append(tuple(out.shape)))
    score_continuations(llama, tiny_tokenizer, prompts[3:4], [[[40, 257]]], batch_size=4, speed=PLAIN)
    # The first token of all labels is predicted at one place, their further ones at one each.
    labels = [[[40, 257], [41, 42, 257], [43]]]
    score_continuations(llama, tiny_tokenizer, prompts[3:4], labels, batch_size=4)
    handle.remove()
    assert widths == [(1, 2, 261), (1 + 1 + 2, 261)]


def test_a_small_logits_budget_only_makes_batches_smaller(llama, tiny_tokenizer, items, monkeypatch):
    prompts, continuations = items
    wanted = score_continuations(llama, tiny_tokenizer, prompts, continuations, batch_size=16, speed=PLAIN)
    monkeypatch.setattr(choices, "_LOGITS_LIMIT", 261 * 16)
    shapes: list[tuple[int, ...]] = []
    handle = llama.lm_head.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape)))
    got = score_continuations(llama, tiny_tokenizer, prompts, continuations, batch_size=16, speed=PLAIN)
    handle.remove()
    assert len(shapes) > 1 and all(rows * width <= 16 for rows, width, _ in shapes)
    for left, right in zip(got, wanted, strict=True):
        assert left == pytest.approx(right, abs=1e-4)


def test_a_pass_never_holds_more_logits_than_its_bound(llama, tiny_tokenizer, items, monkeypatch):
    from adapter_exp.engine import branches

    prompts, continuations = items
    wanted = score_continuations(llama, tiny_tokenizer, prompts, continuations, batch_size=16)
    monkeypatch.setattr(branches, "CHUNK_NUMBERS", 261 * 4)
    shapes: list[tuple[int, ...]] = []
    handle = llama.lm_head.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape)))
    got = score_continuations(llama, tiny_tokenizer, prompts, continuations, batch_size=16)
    handle.remove()
    assert len(shapes) > 1 and all(places <= 4 for places, _ in shapes)
    assert [score for group in got for score in group] == pytest.approx(
        [s for group in wanted for s in group], rel=1e-6
    )


@pytest.mark.parametrize("shared", [0, 1, 6, None])
@pytest.mark.parametrize("name", SAVINGS)
def test_every_saving_gives_the_numbers_of_the_plain_path(any_model, tiny_tokenizer, items, name, shared):
    """``shared``: tokens that all prompts begin with; None: the prompts are equal."""
    prompts, continuations = items
    head = [7, 8, 9, 10, 11, 12][:shared]
    rows = [prompts[3]] * len(prompts) if shared is None else [[*head, *prompt] for prompt in prompts]
    wanted = score_continuations(any_model, tiny_tokenizer, rows, continuations, batch_size=3, speed=PLAIN)
    for batch_size in (1, 3, 8):
        got = score_continuations(
            any_model, tiny_tokenizer, rows, continuations, batch_size=batch_size, speed=SAVINGS[name]
        )
        for left, right in zip(got, wanted, strict=True):
            assert left == pytest.approx(right, rel=1e-6)


def test_each_prompt_runs_once_and_the_prefix_once_a_pass(llama, tiny_tokenizer, items):
    prompts, continuations = items
    head = [7, 8, 9, 10, 11, 12]
    tokens: list[int] = []
    handle = llama.model.layers[0].mlp.register_forward_hook(lambda module, args, out: tokens.append(out.shape[1]))
    score_continuations(llama, tiny_tokenizer, [head + prompt for prompt in prompts], continuations, batch_size=16)
    handle.remove()
    branches = sum(len(one) - 1 for group in continuations for one in group)
    assert tokens == [len(head) + sum(map(len, prompts)) + branches]


def test_empty_rows_and_nan_are_refused(tiny_model, tiny_tokenizer):
    from adapter_exp.evaluation.batching import NotFiniteError

    with pytest.raises(ValueError, match="no tokens"):
        score_continuations(tiny_model, tiny_tokenizer, [[1]], [[[]]], batch_size=1)
    tiny_model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(NotFiniteError):
        score_continuations(tiny_model, tiny_tokenizer, [[1]], [[[2]]], batch_size=1)
