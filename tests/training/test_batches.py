"""Row order, padding and labels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_exp.data.rendering import TrainingRow
from adapter_exp.training.batches import BucketSampler, Collator, count_tokens


def rows_of(lengths):
    return [TrainingRow([1] * length, length - 1, truncated=False) for length in lengths]


lengths_of_rows = st.lists(st.integers(1, 300), min_size=1, max_size=120)


@given(lengths=lengths_of_rows, size=st.integers(1, 9), seed=st.integers(0, 5), buckets=st.booleans())
def test_every_row_once_per_epoch_and_only_the_last_batch_is_short(lengths, size, seed, buckets):
    sampler = BucketSampler(lengths, batch_size=size, seed=seed, buckets=buckets)
    for epoch in (0, 3):
        sampler.set_epoch(epoch)
        order = list(sampler)
        assert sorted(order) == list(range(len(lengths)))
        batches = sampler.batches(epoch)
        assert [i for batch in batches for i in batch] == order
        assert all(len(batch) == size for batch in batches[:-1])


def test_order_depends_on_seed_and_epoch_only():
    lengths = list(range(1, 65))

    def order(seed, epoch):
        sampler = BucketSampler(lengths, batch_size=4, seed=seed, buckets=True)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_buckets_pad_less_than_a_plain_shuffle():
    lengths = [10 + (i * 37) % 190 for i in range(256)]
    padded = {}
    for buckets in (True, False):
        sampler = BucketSampler(lengths, batch_size=8, seed=0, buckets=buckets)
        tokens, padded[buckets] = count_tokens(sampler, rows_of(lengths), Collator(0), 32)
        assert tokens == sum(lengths)
    assert padded[True] < 1.15 * sum(lengths) < 1.4 * sum(lengths) < padded[False]


def test_token_count_goes_over_epochs():
    sampler = BucketSampler([3, 5, 7], batch_size=2, seed=0, buckets=False)
    rows = rows_of(sampler.lengths)
    once, _ = count_tokens(sampler, rows, Collator(0), 2)
    twice, _ = count_tokens(sampler, rows, Collator(0), 4)
    assert (once, twice) == (15, 30)


@given(
    rows=st.lists(
        st.tuples(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.lists(st.integers(0, 9), min_size=1)),
        min_size=1,
        max_size=5,
    ),
    pad_id=st.integers(0, 9),
)
def test_collator_supervises_exactly_the_answers_even_when_pad_is_an_answer_token(rows, pad_id):
    batch = Collator(pad_id)([TrainingRow(p + a, len(p), truncated=False) for p, a in rows])
    for i, (prompt, answer) in enumerate(rows):
        n = len(prompt) + len(answer)
        assert batch["input_ids"][i, :n].tolist() == prompt + answer
        assert batch["labels"][i].tolist() == [-100] * len(prompt) + answer + [-100] * (batch["labels"].shape[1] - n)
        assert batch["attention_mask"][i].tolist() == [1] * n + [0] * (batch["labels"].shape[1] - n)


@pytest.mark.parametrize("batches", [0, 1, 7])
def test_no_tokens_before_the_first_batch_and_all_of_them_later(batches):
    sampler = BucketSampler([4] * 10, batch_size=3, seed=1, buckets=True)
    tokens, padded = count_tokens(sampler, rows_of(sampler.lengths), Collator(0), batches)
    assert tokens == padded == {0: 0, 1: 12, 7: 40 + 36 - 0}.get(batches)
