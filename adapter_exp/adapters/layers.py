"""Which decoder layers an adapter sits on: ``all``, ``last:N``, ``first:N``, ``every:N`` or a list."""

from __future__ import annotations

import re
from collections.abc import Sequence

ALLOWED = "all, last:N, first:N, every:N, or a list of layer numbers from 0"
_COUNTED = re.compile(r"(last|first|every):([1-9][0-9]{0,5})")


def check_choice(choice: object) -> str | tuple[int, ...]:
    """Return a layer choice in its normal form: a word, or the layer numbers sorted and each once.

    This checks what needs no model. A list may come from YAML (``[0, 6]``) or from Python.

    Raises:
        ValueError: if the choice is none of the five forms.
    """
    if isinstance(choice, str):
        if choice == "all" or _COUNTED.fullmatch(choice):
            return choice
        raise ValueError(f"{choice!r} is not a choice of layers. Use {ALLOWED}.")
    if not isinstance(choice, Sequence):
        raise ValueError(f"{choice!r} is not a choice of layers. Use {ALLOWED}.")
    if not choice:
        raise ValueError(f"an empty list names no layer. Use {ALLOWED}.")
    for layer in choice:
        if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0:
            raise ValueError(f"{layer!r} is not a layer number. Use {ALLOWED}.")
    return tuple(sorted(set(choice)))


def parse_layers(choice: str | Sequence[int], num_layers: int, *, name: str = "the model") -> tuple[int, ...]:
    """Layer numbers that ``choice`` means in a model of ``num_layers``, ascending, each once.

    Args:
        choice: ``all``; ``last:N`` and ``first:N``, N layers at one end; ``every:N``, layers 0, N, 2N...; or a list.
        num_layers: decoder layers of the model.
        name: the model's name for the message.

    Raises:
        ValueError: if the choice does not parse or asks for layers that the model lacks.
    """
    normal = check_choice(choice)
    if isinstance(normal, tuple):
        if normal[-1] >= num_layers:
            raise ValueError(f"layer {normal[-1]} is out of range: {name} has layers 0 to {num_layers - 1}.")
        return normal
    if normal == "all":
        return tuple(range(num_layers))
    word, _, digits = normal.partition(":")
    count = int(digits)
    if word == "every":
        return tuple(range(0, num_layers, count))
    if count > num_layers:
        raise ValueError(
            f"{normal!r} asks for {count} layers, but {name} has {num_layers}. "
            f"Use {word}:{num_layers} or fewer, every:N, a list, or all."
        )
    return tuple(range(num_layers - count, num_layers)) if word == "last" else tuple(range(count))
