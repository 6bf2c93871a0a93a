"""Which layers a choice means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_exp.adapters.layers import parse_layers

sizes = st.integers(1, 200)


@given(sizes, st.data())
def test_last_and_first_are_the_two_ends(layers: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, layers))
    first, last = parse_layers(f"first:{count}", layers), parse_layers(f"last:{count}", layers)
    assert first == tuple(range(layers))[:count]
    assert last == tuple(range(layers))[-count:]


@given(sizes, st.integers(1, 300))
def test_every_counts_from_layer_0(layers: int, step: int) -> None:
    assert parse_layers(f"every:{step}", layers) == tuple(layer for layer in range(layers) if layer % step == 0)


@given(sizes, st.data())
def test_a_list_is_sorted_and_unique(layers: int, data: st.DataObject) -> None:
    choice = data.draw(st.lists(st.integers(0, layers - 1), min_size=1))
    assert parse_layers(choice, layers) == tuple(sorted(set(choice)))


@given(sizes, st.integers(1, 1000))
def test_more_layers_than_there_are_is_refused(layers: int, excess: int) -> None:
    for choice in (f"last:{layers + excess}", f"first:{layers + excess}", [layers - 1 + excess]):
        with pytest.raises(ValueError, match=r"has"):
            parse_layers(choice, layers)


@given(st.text())
def test_any_other_word_is_refused_with_what_is_allowed(text: str) -> None:
    try:
        layers = parse_layers(text, 30)
    except ValueError as error:
        assert "last:N" in str(error) or "last:30" in str(error) or "first:30" in str(error)
    else:
        assert text == "all" or text.partition(":")[0] in ("last", "first", "every")
        assert set(layers) <= set(range(30))


def test_all_is_every_layer() -> None:
    assert parse_layers("all", 4) == (0, 1, 2, 3)


def test_the_message_says_what_to_do() -> None:
    with pytest.raises(ValueError) as caught:
        parse_layers("last:40", 30, name="smollm2_135m")
    assert str(caught.value) == (
        "'last:40' asks for 40 layers, but smollm2_135m has 30. Use last:30 or fewer, every:N, a list, or all."
    )


@pytest.mark.parametrize(
    "choice", ["last:0", "every:0", "last:-1", "last: 2", "ALL", "", [], [-1], [True], ["1"], [1.5]]
)
def test_malformed_choices_are_refused(choice: object) -> None:
    with pytest.raises(ValueError, match="Use all, last:N"):
        parse_layers(choice, 4)
