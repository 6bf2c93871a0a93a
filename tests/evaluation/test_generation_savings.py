"""Whatever is saved in generation, the answers are those of the plain path."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from adapter_exp.evaluation.batching import NotFiniteError
from adapter_exp.evaluation.decoding import Decoding
from adapter_exp.evaluation.generation import Generated, generate
from tests.evaluation.freezing import counted_tokens, frozen
from tests.evaluation.speeds import PLAIN, SAVINGS

EOS = 257
LENGTHS = (1, 3, 5, 9, 14, 20, 2, 11)
GREEDY = Decoding(12)
SAMPLED = Decoding(12, temperature=4.0, top_p=0.95, repetition_penalty=1.3, seed=3)


def prompts_sharing(shared: int | None) -> list[list[int]]:
    """Eight prompts that begin with ``shared`` equal tokens; None: equal ones."""
    draw = random.Random(0)
    rows = [[draw.randrange(32, 127) for _ in range(length)] for length in LENGTHS]
    for number, row in enumerate(rows):  # no tokens in common but those asked for
        row[0] = 40 + number
    return [rows[4]] * len(rows) if shared is None else [[256, 1, 2, 3, 4, 5, 6][:shared] + row for row in rows]


def ask(model: Any, tokenizer: Any, prompts: Any, decoding: Decoding, **options: Any) -> list[Generated]:
    return generate(model, tokenizer, prompts, decoding, **({"end_ids": (EOS,), "batch_size": 3} | options))


def facts(answers: list[Generated]) -> list[tuple[str, int]]:
    return [(one.text, one.new_tokens) for one in answers]


@pytest.fixture(scope="module")
def ends() -> tuple[int, ...]:
    """So many tokens that answers end at different steps, and some at none."""
    return (EOS, *range(0, 250, 9))


@pytest.mark.parametrize("shared", [0, 1, 7, None])
@pytest.mark.parametrize("decoding", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_every_saving_gives_the_answers_of_the_plain_path(any_model, tiny_tokenizer, ends, decoding, shared):
    prompts = prompts_sharing(shared)
    wanted = facts(ask(any_model, tiny_tokenizer, prompts, decoding, end_ids=ends, speed=PLAIN))
    if shared is not None:
        assert len({length for _, length in wanted}) > 1, "answers must end at different steps"
    for name, speed in SAVINGS.items():
        for batch_size in (1, 3, 8) if name == "all" else (3,):
            options = {"end_ids": ends, "batch_size": batch_size, "speed": speed}
            assert facts(ask(any_model, tiny_tokenizer, prompts, decoding, **options)) == wanted, (name, batch_size)


def test_an_adapter_takes_part(upper_adapter, adapted, tiny_tokenizer, ends):
    prompts = prompts_sharing(7)
    wanted = facts(ask(adapted, tiny_tokenizer, prompts, GREEDY, end_ids=ends, speed=PLAIN))
    assert facts(ask(adapted, tiny_tokenizer, prompts, GREEDY, end_ids=ends)) == wanted
    with upper_adapter.disabled():
        assert wanted != facts(ask(adapted, tiny_tokenizer, prompts, GREEDY, end_ids=ends, speed=PLAIN))


@pytest.mark.parametrize(("decoding", "shared"), [(GREEDY, 7), (SAMPLED, 0), (SAMPLED, None)])
def test_kept_prompts_give_the_answers_of_the_plain_path(adapted, tiny_tokenizer, ends, decoding, shared, tmp_path):
    prompts = prompts_sharing(shared)
    wanted = facts(ask(adapted, tiny_tokenizer, prompts, decoding, end_ids=ends, speed=PLAIN))
    for batch_size in (1, 8):  # computed, then read
        options = {"end_ids": ends, "batch_size": batch_size, "frozen": frozen(adapted, tmp_path)}
        assert facts(ask(adapted, tiny_tokenizer, prompts, decoding, **options)) == wanted
        options["frozen"] = frozen(adapted, tmp_path)
        assert facts(ask(adapted, tiny_tokenizer, prompts[:2], decoding, **options)) == wanted[:2]


def test_prompts_pass_the_layers_below_once(llama, tiny_tokenizer, tmp_path):
    prompts = prompts_sharing(7)
    own = sum(LENGTHS)
    for asked, tokens in ((prompts[:4], 7 + sum(LENGTHS[:4])), (prompts[:4], 0), (prompts, 7 + own), (prompts, 0)):
        with counted_tokens(llama, 0) as below, counted_tokens(llama, 1) as above:
            ask(llama, tiny_tokenizer, asked, Decoding(1), frozen=frozen(llama, tmp_path))
        # More prompts with the same beginning: only the new ones run.
        known = sum(LENGTHS[:4]) if tokens > own else 0
        assert sum(below) == tokens - known
        assert sum(above) == 7 + sum(LENGTHS[: len(asked)])


def test_a_higher_cut_goes_on_from_prompts_of_a_lower_one(any_model, tiny_tokenizer, ends, tmp_path):
    prompts = prompts_sharing(7)
    wanted = facts(ask(any_model, tiny_tokenizer, prompts, GREEDY, end_ids=ends, speed=PLAIN))
    ask(any_model, tiny_tokenizer, prompts, Decoding(1), frozen=frozen(any_model, tmp_path, cut=1))
    for runs in ([7 + sum(LENGTHS)], []):  # the second time everything is there
        with counted_tokens(any_model, 0) as below, counted_tokens(any_model, 1) as between:
            ask(any_model, tiny_tokenizer, prompts, Decoding(1), frozen=frozen(any_model, tmp_path, cut=2))
        assert (below, between) == ([], runs)
    kept = frozen(any_model, tmp_path, cut=2)
    assert facts(ask(any_model, tiny_tokenizer, prompts, GREEDY, end_ids=ends, frozen=kept)) == wanted


def test_prompts_that_do_not_fit_are_not_kept(llama, tiny_tokenizer, tmp_path):
    prompts = prompts_sharing(7)
    wanted = facts(ask(llama, tiny_tokenizer, prompts, GREEDY))
    got = ask(llama, tiny_tokenizer, prompts, GREEDY, frozen=frozen(llama, tmp_path, max_bytes=1000))
    assert facts(got) == wanted
    assert [path.name for path in tmp_path.iterdir()] == ["store.lock"]


def test_order_and_company_do_not_matter(any_model, tiny_tokenizer, ends):
    prompts = prompts_sharing(7)
    wanted = facts(ask(any_model, tiny_tokenizer, prompts, SAMPLED, end_ids=ends))
    assert facts(ask(any_model, tiny_tokenizer, prompts[::-1], SAMPLED, end_ids=ends)) == wanted[::-1]
    assert facts(ask(any_model, tiny_tokenizer, prompts[5:6], SAMPLED, end_ids=ends)) == wanted[5:6]


def test_stop_strings_end_the_same_answers(fresh_llama, tiny_tokenizer):
    fresh_llama.lm_head.weight.data[94:] = 0  # printable ASCII only
    prompts = prompts_sharing(7)
    free = ask(fresh_llama, tiny_tokenizer, prompts, GREEDY)
    stop = (free[4].text[5:7], free[6].text[3], "never there")
    wanted = facts(ask(fresh_llama, tiny_tokenizer, prompts, Decoding(12, stop), speed=PLAIN))
    assert {length < 12 for _, length in wanted} == {True, False}
    assert facts(ask(fresh_llama, tiny_tokenizer, prompts, Decoding(12, stop))) == wanted


def test_waiting_prompts_take_the_place_of_finished_ones(llama, tiny_tokenizer, ends):
    prompts = prompts_sharing(7)
    passes: dict[str, list[int]] = {}
    for name in ("packing", "continuous"):
        rows = passes[name] = []
        handle = llama.lm_head.register_forward_pre_hook(lambda module, args, rows=rows: rows.append(len(args[0])))
        got = ask(llama, tiny_tokenizer, prompts, GREEDY, end_ids=ends, speed=SAVINGS[name])
        handle.remove()
        assert sum(rows) == sum(one.new_tokens for one in got), "no step is spent on a finished row"
        assert max(rows) == 3
    assert len(passes["continuous"]) < len(passes["packing"])


def test_the_shared_prefix_runs_once(llama, tiny_tokenizer):
    prompts = prompts_sharing(7)
    with counted_tokens(llama, 0) as tokens:
        ask(llama, tiny_tokenizer, prompts, Decoding(1))
    assert sum(tokens) == 7 + sum(LENGTHS)


def test_time_is_shared_and_progress_told(llama, tiny_tokenizer, ends):
    done: list[tuple[int, int]] = []
    got = ask(
        llama,
        tiny_tokenizer,
        prompts_sharing(7),
        GREEDY,
        end_ids=ends,
        on_progress=lambda now, total: done.append((now, total)),
    )
    assert all(one.milliseconds > 0 for one in got)
    assert done[-1] == (8, 8) and done == sorted(set(done))


def test_nan_in_a_later_step_is_refused(llama, tiny_tokenizer):
    calls: list[int] = []

    def spoil(module: Any, args: Any, out: torch.Tensor) -> torch.Tensor | None:
        calls.append(1)
        return out * float("nan") if len(calls) == 3 else None

    handle = llama.lm_head.register_forward_hook(spoil)
    try:
        with pytest.raises(NotFiniteError):
            ask(llama, tiny_tokenizer, prompts_sharing(1), GREEDY)
    finally:
        handle.remove()
