"""Rows computed together: found from the memory, halved when it runs out, without losing what was finished."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapter_exp.evaluation import batch_size as sizes
from adapter_exp.evaluation.choices import score_rows
from adapter_exp.evaluation.decoding import Decoding
from adapter_exp.evaluation.generation import generate
from tests.evaluation.speeds import PLAIN, SAVINGS

EOS = 257
PROMPTS = [[256, 40 + k, *range(60, 60 + k)] for k in range(9)]
ROWS = [(prompt, [41, 42, EOS]) for prompt in PROMPTS]
SPEEDS = pytest.mark.parametrize("speed", [PLAIN, SAVINGS["all"]], ids=["plain", "all"])
ERRORS = (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory"))


def fail_above(model: Any, rows: int, error: BaseException) -> Any:
    """Raise ``error`` wherever the vocabulary projection gets more than ``rows`` rows; undo by ``remove``."""

    def check(module: Any, args: Any) -> None:
        if args[0].shape[0] > rows:
            raise error

    return model.lm_head.register_forward_pre_hook(check)


@SPEEDS
@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu"])
def test_generation_is_halved_until_it_fits(llama, tiny_tokenizer, speed, error):
    def ask(size: int) -> list[Any]:
        return generate(llama, tiny_tokenizer, PROMPTS, Decoding(5), end_ids=(EOS,), batch_size=size, speed=speed)

    wanted = ask(8)
    handle = fail_above(llama, 3, error)
    try:
        got = ask(8)
    finally:
        handle.remove()
    assert [one.text for one in got] == [one.text for one in wanted]
    assert {one.batch_size for one in got} == {2}


def test_finished_answers_are_kept(llama, tiny_tokenizer):
    """The memory runs out once, late: what was answered before is not asked again."""
    calls: list[int] = []
    done: list[int] = []

    def fail_once(module: Any, args: Any) -> None:
        calls.append(len(args[0]))
        if len(calls) == 8:
            raise ERRORS[1]

    handle = llama.lm_head.register_forward_pre_hook(fail_once)
    try:
        got = generate(
            llama,
            tiny_tokenizer,
            PROMPTS,
            Decoding(5),
            end_ids=(),
            batch_size=4,
            on_progress=lambda now, total: done.append(now),
        )
    finally:
        handle.remove()
    kept = [one for one in got if one.batch_size == 4]
    assert len(kept) == done[0] > 0 and {one.batch_size for one in got} == {4, 2}
    assert sum(calls[8:]) == 5 * (len(PROMPTS) - len(kept))


@SPEEDS
def test_scoring_is_halved_until_it_fits(llama, tiny_tokenizer, speed):
    wanted = score_rows(llama, tiny_tokenizer, ROWS, batch_size=8, speed=speed)
    # A packed pass projects the places of all its rows at once, a plain one a rectangle of rows.
    handle = fail_above(llama, 3 if speed is PLAIN else 9, ERRORS[1])
    try:
        got = score_rows(llama, tiny_tokenizer, ROWS, batch_size=8, speed=speed)
    finally:
        handle.remove()
    assert [one.logprob for one in got] == pytest.approx([one.logprob for one in wanted], rel=1e-6)
    assert {one.batch_size for one in got} == {2}


def test_a_single_row_that_does_not_fit_and_other_errors_are_raised(llama, tiny_tokenizer):
    for error, rows in ((ERRORS[0], 0), (RuntimeError("something else"), 3)):
        handle = fail_above(llama, rows, error)
        try:
            with pytest.raises(RuntimeError, match=str(error)):
                generate(llama, tiny_tokenizer, PROMPTS, Decoding(5), end_ids=(EOS,), batch_size=8)
        finally:
            handle.remove()


def test_auto_takes_what_pays_and_what_fits(llama, monkeypatch):
    from adapter_exp.models import free_memory

    longest = [[1] * 100]

    def rows(free: int) -> int:
        monkeypatch.setattr(free_memory, "free_bytes", lambda device: free)
        return sizes.rows_for_generation(llama, longest, 28, "auto")

    assert rows(2**40) == sizes.MOST_ROWS["cpu"]
    assert rows(0) == 1
    # 3 layers, 2 key heads of 8, keys and values, fp32, 128 tokens, and the copies of the logits.
    per_row = 3 * 2 * 8 * 2 * 4 * 128 + 40 * 261
    fixed = (3 * 64 + 6 * 32 + 4 * 32) * 4 * 2048
    assert rows(2 * (fixed + 10 * per_row)) == 10
    assert sizes.rows_for_generation(llama, longest, 28, 7) == 7
    assert sizes.rows_for_scoring(llama, ROWS, "auto") >= 1
    assert sizes.rows_for_scoring(llama, ROWS, 3) == 3
