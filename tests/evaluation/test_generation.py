from __future__ import annotations

import random

import pytest

from adapter_exp.evaluation.decoding import Decoding
from adapter_exp.evaluation.generation import generate
from tests.evaluation.speeds import PLAIN

EOS = 257
LENGTHS = (1, 3, 5, 9, 14, 20, 2, 11)


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    draw = random.Random(0)
    return [[256] + [draw.randrange(32, 127) for _ in range(length - 1)] for length in LENGTHS]


def reference(model, prompt: list[int], new_tokens: int, end_ids: list[int]) -> list[int]:
    """New tokens of transformers' own greedy generate on one row without padding."""
    import torch

    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=new_tokens,
        eos_token_id=end_ids,
        pad_token_id=EOS,
    )
    return out[0, len(prompt) :].tolist()


def text_of(tokenizer, tokens: list[int], end_ids: list[int]) -> str:
    return tokenizer.decode([t for t in tokens if t not in end_ids], skip_special_tokens=True)


def run(model, tokenizer, prompts, decoding, *, end_ids=(EOS,), batch_size=8, **options):
    return generate(model, tokenizer, prompts, decoding, end_ids=end_ids, batch_size=batch_size, **options)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_greedy_equals_transformers_generate_row_by_row(any_model, tiny_tokenizer, prompts, batch_size):
    free = [reference(any_model, prompt, 16, [EOS]) for prompt in prompts]
    # Real ends at different steps: two tokens that the answers hold end them too.
    ends = [EOS, free[3][4], free[5][9]]
    wanted = [reference(any_model, prompt, 16, ends) for prompt in prompts]
    assert len({len(tokens) for tokens in wanted}) > 1, "rows must leave the batch at different steps"

    got = run(any_model, tiny_tokenizer, prompts, Decoding(16), end_ids=ends, batch_size=batch_size)

    assert [g.new_tokens for g in got] == [len(tokens) for tokens in wanted]
    assert [g.text for g in got] == [text_of(tiny_tokenizer, tokens, ends) for tokens in wanted]


def test_repetition_penalty_ignores_padding_and_equals_transformers(llama, tiny_tokenizer, prompts):
    import torch

    got = run(llama, tiny_tokenizer, prompts, Decoding(12, repetition_penalty=1.7))
    for prompt, one in zip(prompts, got, strict=True):
        ids = torch.tensor([prompt])
        out = llama.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=12,
            repetition_penalty=1.7,
            pad_token_id=EOS,
        )
        assert one.text == text_of(tiny_tokenizer, out[0, len(prompt) :].tolist(), [EOS])
    assert [g.text for g in got] != [g.text for g in run(llama, tiny_tokenizer, prompts, Decoding(12))]


def test_samples_depend_on_seed_and_prompt_only(any_model, tiny_tokenizer, prompts):
    decoding = Decoding(10, temperature=4.0, top_p=0.95, repetition_penalty=1.1, seed=3)
    rows = [*prompts, prompts[4], prompts[4]]
    wanted = [g.text for g in run(any_model, tiny_tokenizer, rows, decoding, batch_size=1)]
    for batch_size in (3, 10):
        assert [g.text for g in run(any_model, tiny_tokenizer, rows, decoding, batch_size=batch_size)] == wanted
    backwards = run(any_model, tiny_tokenizer, rows[7::-1], decoding, batch_size=3)
    assert [g.text for g in backwards] == wanted[7::-1]
    assert len({wanted[4], wanted[8], wanted[9]}) == 3, "the same prompt again is another sample"
    other = run(
        any_model,
        tiny_tokenizer,
        rows,
        Decoding(10, temperature=4.0, top_p=0.95, repetition_penalty=1.1, seed=4),
        batch_size=3,
    )
    assert [g.text for g in other] != wanted


def test_draws_follow_the_softmax(llama, tiny_tokenizer, prompts):
    """4000 one-token samples: each frequency within five standard errors of the model's probability."""
    import torch

    decoding = Decoding(1, temperature=1.5, seed=1)
    samples = run(llama, tiny_tokenizer, [prompts[2]] * 4000, decoding, end_ids=(), batch_size=1000)
    with torch.no_grad():
        probabilities = (llama(torch.tensor([prompts[2]])).logits[0, -1] / 1.5).softmax(-1)
    for token in range(94):  # one character each
        p = float(probabilities[token])
        share = sum(one.text == tiny_tokenizer.decode([token]) for one in samples) / len(samples)
        assert share == pytest.approx(p, abs=5 * (p * (1 - p) / len(samples)) ** 0.5 + 1e-9)


def test_top_p_near_zero_is_greedy(llama, tiny_tokenizer, prompts):
    greedy = run(llama, tiny_tokenizer, prompts, Decoding(8))
    narrow = run(llama, tiny_tokenizer, prompts, Decoding(8, temperature=1.0, top_p=1e-6))
    assert [g.text for g in narrow] == [g.text for g in greedy]


@pytest.fixture
def printable(fresh_llama):
    """A Llama that writes printable ASCII only (the tokenizer's first 94 tokens)."""
    fresh_llama.lm_head.weight.data[94:] = 0
    return fresh_llama


def test_stop_string_cuts_the_text_and_ends_the_row(printable, tiny_tokenizer, prompts):
    free = run(printable, tiny_tokenizer, prompts, Decoding(16))
    stop = free[4].text[5:7]  # spans two tokens
    cut = run(printable, tiny_tokenizer, prompts, Decoding(16, stop=("never there", stop)))
    assert cut[4].new_tokens == free[4].text.index(stop) + 2 < 16
    assert [one.text for one in cut] == [one.text.partition(stop)[0] for one in free]


def test_the_earliest_stop_string_wins(printable, tiny_tokenizer, prompts):
    text = run(printable, tiny_tokenizer, prompts[4:5], Decoding(16))[0].text
    longer, shorter = text[2:6], text[3:6]  # both are complete at the same token
    for stop in ((longer, shorter), (shorter, longer)):
        cut = run(printable, tiny_tokenizer, prompts[4:5], Decoding(16, stop=stop))[0]
        assert cut.text == text[: min(text.index(longer), text.index(shorter))]


def test_steps_are_spent_on_unfinished_rows_only(llama, tiny_tokenizer, prompts):
    free = [reference(llama, prompt, 12, [EOS]) for prompt in prompts]
    ends = [EOS, free[0][1], free[3][4]]
    rows_run: list[int] = []
    handle = llama.register_forward_pre_hook(
        lambda module, args, kwargs: rows_run.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    got = run(llama, tiny_tokenizer, prompts, Decoding(12), end_ids=ends, speed=PLAIN)
    handle.remove()
    assert sum(rows_run) == sum(one.new_tokens for one in got)
    assert len(rows_run) == max(one.new_tokens for one in got)


def test_modes_are_put_back_and_time_is_shared(llama, tiny_tokenizer, prompts):
    llama.train()
    llama.model.layers[0].eval()
    modes = [module.training for module in llama.modules()]
    done: list[tuple[int, int]] = []
    got = generate(
        llama,
        tiny_tokenizer,
        prompts,
        Decoding(4),
        end_ids=(),
        batch_size=3,
        speed=PLAIN,
        on_progress=lambda now, total: done.append((now, total)),
    )
    assert [module.training for module in llama.modules()] == modes
    llama.eval()
    assert done == [(3, 8), (6, 8), (8, 8)]
    assert all(one.milliseconds > 0 for one in got)


def test_training_works_after_generation(fresh_gemma3, tiny_tokenizer, prompts):
    """Nothing that inference mode made may stay behind in the model."""
    import torch

    model = fresh_gemma3.requires_grad_(True)
    run(model, tiny_tokenizer, prompts, Decoding(3))
    ids = torch.tensor([prompts[5]])
    model(input_ids=ids, labels=ids).loss.backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_nothing_to_do_and_nothing_to_follow(llama, tiny_tokenizer):
    assert run(llama, tiny_tokenizer, [], Decoding(4)) == []
    with pytest.raises(ValueError, match="row 1 has no tokens"):
        run(llama, tiny_tokenizer, [[1], []], Decoding(4))


def test_nan_logits_are_refused(tiny_model, tiny_tokenizer):
    from adapter_exp.evaluation.batching import NotFiniteError

    tiny_model.model.norm.weight.data[0] = float("nan")
    with pytest.raises(NotFiniteError):
        run(tiny_model, tiny_tokenizer, [[1, 2]], Decoding(4))


@pytest.mark.parametrize(
    "bad", [{"max_new_tokens": 0}, {"stop": ("",)}, {"temperature": -1}, {"top_p": 0}, {"repetition_penalty": 0}]
)
def test_decoding_refuses_values_out_of_range(bad):
    with pytest.raises(ValueError, match=r"max_new_tokens|stop|temperature"):
        Decoding(**({"max_new_tokens": 4} | bad))
