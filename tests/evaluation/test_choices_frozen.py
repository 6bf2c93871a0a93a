"""Labels scored from kept states of the frozen layers: the same numbers, and only the layers above the cut run."""

from __future__ import annotations

import pytest

from adapter_exp.evaluation.choices import Scored, score_rows
from tests.evaluation.freezing import counted_tokens, frozen
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
    for rows, run in ((ROWS[:9], True), (ROWS[:9], False), (ROWS, True), (ROWS[9:], False)):
        with counted_tokens(llama, 0) as tokens:
            score_rows(llama, tiny_tokenizer, rows, batch_size=18, frozen=frozen(llama, tmp_path))
        assert bool(tokens) == run
        if rows is ROWS:
            new = ROWS[9::3]
            assert sum(tokens) == len(HEAD) + sum(len(prompt) - len(HEAD) + 2 + 0 + 3 for prompt, _ in new)


def test_a_higher_cut_goes_on_from_the_states_of_a_lower_one(any_model, tiny_tokenizer, tmp_path):
    wanted = logprobs(score_rows(any_model, tiny_tokenizer, ROWS, batch_size=4, speed=PLAIN))
    score_rows(any_model, tiny_tokenizer, ROWS, batch_size=18, frozen=frozen(any_model, tmp_path, cut=1))
    for ran in (True, False):
        with counted_tokens(any_model, 0) as below, counted_tokens(any_model, 1) as between:
            kept = frozen(any_model, tmp_path, cut=2)
            got = score_rows(any_model, tiny_tokenizer, ROWS, batch_size=18, frozen=kept)
        assert (bool(below), bool(between)) == (False, ran)
        assert logprobs(got) == pytest.approx(wanted, rel=1e-6, abs=2e-5)  # nats


def test_without_room_all_layers_run(llama, tiny_tokenizer, tmp_path):
    wanted = logprobs(score_rows(llama, tiny_tokenizer, ROWS, batch_size=4))
    got = score_rows(llama, tiny_tokenizer, ROWS, batch_size=4, frozen=frozen(llama, tmp_path, max_bytes=1))
    assert logprobs(got) == wanted
