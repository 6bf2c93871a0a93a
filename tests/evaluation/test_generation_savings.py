"""Whatever is saved in generation, the answers are those of the plain path."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from adapter_exp.adapters import attach
from adapter_exp.adapters.specs import LoraSpec, MlpSpec
from adapter_exp.evaluation.batching import NotFiniteError
from adapter_exp.evaluation.decoding import Decoding
from adapter_exp.evaluation.generation import Generated, generate
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


@pytest.mark.parametrize(
    "spec", [LoraSpec(r=4, layers="last:2"), MlpSpec(hidden_dim=8, layers="last:2")], ids=["lora", "mlp"]
)
def test_an_adapter_takes_part(any_model, tiny_tokenizer, ends, spec):
    prompts = prompts_sharing(7)
    base = facts(ask(any_model, tiny_tokenizer, prompts, GREEDY, end_ids=ends))
    attached = attach(any_model, spec)
    try:
        with torch.no_grad():
            for number, parameter in enumerate(attached.parameters().values()):
                generator = torch.Generator().manual_seed(number)
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        any_model.eval()
        wanted = facts(ask(any_model, tiny_tokenizer, prompts, GREEDY, end_ids=ends, speed=PLAIN))
        assert wanted != base
        assert facts(ask(any_model, tiny_tokenizer, prompts, GREEDY, end_ids=ends)) == wanted
    finally:
        attached.detach()


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
    tokens: list[int] = []
    handle = llama.model.layers[0].mlp.register_forward_hook(lambda module, args, out: tokens.append(out.shape[1]))
    ask(llama, tiny_tokenizer, prompts, Decoding(1))
    handle.remove()
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
