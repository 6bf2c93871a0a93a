"""Where answers end: told without decoding the whole answer at each token."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_exp.evaluation.decoding import Ending

END = 257
PIECES = st.lists(st.integers(0, 260), min_size=1, max_size=24)


def naive(tokenizer, stop: tuple[str, ...], tokens: list[int]) -> bool:
    ids = [token for token in tokens if token != END]
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return tokens[-1] == END or any(one in text for one in stop)


def test_ends_where_the_whole_text_does(tiny_tokenizer):
    """Bytes of all kinds, so that characters of several bytes are cut anywhere between tokens."""
    letters = tiny_tokenizer("нет да\n ab", add_special_tokens=False)["input_ids"]

    @settings(max_examples=150, deadline=None)
    @given(
        tokens=st.one_of(PIECES, st.lists(st.sampled_from([*letters, END]), min_size=1, max_size=24)),
        stop=st.lists(st.sampled_from(["\n", "т", "ет ", "a", "b\n", " ", "да", "\ufffd"]), max_size=3).map(tuple),
    )
    def check(tokens: list[int], stop: tuple[str, ...]) -> None:
        ending = Ending(tiny_tokenizer, stop, (END,))
        for length in range(1, len(tokens) + 1):
            wanted = naive(tiny_tokenizer, stop, tokens[:length])
            assert ending.ends(tokens[:length]) == wanted
            if wanted:
                return

    check()


def test_few_answers_are_decoded_as_a_whole(tiny_tokenizer, monkeypatch):
    decoded: list[int] = []
    plain = type(tiny_tokenizer).decode

    def count(self, ids, **options):
        decoded.append(len(ids))
        return plain(self, ids, **options)

    monkeypatch.setattr(type(tiny_tokenizer), "decode", count)
    tokens = tiny_tokenizer("abcabc" * 20 + "\n", add_special_tokens=False)["input_ids"]
    ending = Ending(tiny_tokenizer, ("\n",), (END,))
    assert [ending.ends(tokens[: n + 1]) for n in range(len(tokens))] == [False] * (len(tokens) - 1) + [True]
    assert sum(length > 1 for length in decoded) == 1
