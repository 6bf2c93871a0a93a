"""Labels scored from kept states of the frozen layers: the same numbers, and only the layers above the cut run."""

from __future__ import annotations

import pytest

from adapter_exp.evaluation.choices import Scored, score_rows
from tests.evaluation.freezing import frozen
from tests.evaluation.speeds import PLAIN

HEAD = [7, 8, 9, 10, 11]
ROWS = [
    ([*HEAD, 40 + k, *range(60, 60 + 3 * k)], answer)
    for k in range(6)
    for answer in ([41, 42, 257], [43], [44 + k, 45, 46, 257])
]


def logprobs(scored: list[Scored]) -> list[float]:
    return [one.logprob for one in scored]


def test_computed_and_read_states_give_the_plain_numbers(adapted, tiny_tokenizer, tmp_path):
    wanted = logprobs(score_rows(adapted, tiny_tokenizer, ROWS, batch_size=4, speed=PLAIN))
    for batch_size in (1, 4, 18, 18):  # the last time all is read
        got = score_rows(adapted, tiny_tokenizer, ROWS, batch_size=batch_size, frozen=frozen(adapted, tmp_path))
        assert logprobs(got) == pytest.approx(wanted, rel=1e-6)


def test_layers_below_the_cut_run_once_and_only_for_new_rows(llama, tiny_tokenizer, tmp_path):
    tokens: list[int] = []
    handle = llama.model.layers[0].mlp.register_forward_hook(lambda module, args, out: tokens.append(out.shape[1]))
    try:
        for rows, run in ((ROWS[:9], True), (ROWS[:9], False), (ROWS, True), (ROWS[9:], False)):
            tokens.clear()
            score_rows(llama, tiny_tokenizer, rows, batch_size=18, frozen=frozen(llama, tmp_path))
            assert bool(tokens) == run
            if rows is ROWS:
                new = ROWS[9::3]
                assert sum(tokens) == len(HEAD) + sum(len(prompt) - len(HEAD) + 2 + 0 + 3 for prompt, _ in new)
    finally:
        handle.remove()


def test_without_room_all_layers_run(llama, tiny_tokenizer, tmp_path):
    wanted = logprobs(score_rows(llama, tiny_tokenizer, ROWS, batch_size=4))
    got = score_rows(llama, tiny_tokenizer, ROWS, batch_size=4, frozen=frozen(llama, tmp_path, max_bytes=1))
    assert logprobs(got) == wanted
