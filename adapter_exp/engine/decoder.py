"""The decoder over a ``Layout``: all of it, or the layers below or above a cut.

The model's own ``forward`` stays in charge (embeddings, rotary positions, the order of layers); what this module
changes for the time of one call are two things that transformers has a place for: the attention function by its name
in the config, and the layers outside the wanted range, which let the hidden states through.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

from adapter_exp.engine.attention import NAME, attention_function
from adapter_exp.engine.last_layer import feed_forward, feeding_forward_only, feeding_forward_through

MODEL_TYPES = ("llama", "mistral", "gemma3_text")
"""Architectures for which the tests prove the packed pass equal to the plain one."""


def supports(model: Any) -> bool:
    """Whether the packed pass is known to be exact for ``model``."""
    # Gemma 3 as an encoder for embeddings sees both ways.
    both_ways = getattr(model.config, "use_bidirectional_attention", None)
    return model.config.model_type in MODEL_TYPES and not both_ways


def embed(model: Any, ids: Tensor) -> Tensor:
    """Hidden states entering layer 0, (tokens, width), of token ids (tokens,)."""
    states: Tensor = model.get_input_embeddings()(ids)
    return states


def run_layers(
    model: Any,
    layout: Any,
    states: Tensor,
    *,
    first: int = 0,
    last: int | None = None,
    read: Tensor | None = None,
    attention: str = NAME,
) -> Tensor:
    """Run the decoder layers ``first`` to ``last`` (not included) over hidden states laid out as ``layout`` says.

    Args:
        layout: a ``Layout``, or whatever else ``attention`` takes; it says the ``positions`` of the tokens.
        states: hidden states entering layer ``first``, (tokens, width).
        last: None runs to the end, the final norm included.
        read: flat index of the tokens whose output is wanted, each once; None: all. Only with ``last`` None.
        attention: name of the attention function with transformers.

    Returns:
        (tokens, width): hidden states entering layer ``last``, or the decoder's output, of the tokens ``read``.
    """
    decoder = model.get_decoder()
    with (
        attention_function(model, attention),
        _only_layers(decoder, first, last),
        feeding_forward_only(decoder, read),
    ):
        output = decoder(
            inputs_embeds=states[None],
            # Four dimensions: transformers takes it for a finished mask and builds none.
            attention_mask=states.new_zeros(1, 1, 1, 1),
            position_ids=layout.positions[None],
            use_cache=False,
            layout=layout,
        )
    result: Tensor = output.last_hidden_state[0]
    return result if read is None else result[read]


def checkpoint_contexts(model: Any) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a checkpointed forward pass and of its recomputation, as torch's ``context_fn`` gives them.

    A layer is recomputed in the backward pass, when ``run_layers`` has long ended: it must find what it found then.
    """
    return nullcontext(), _again(model, model.config._attn_implementation, feed_forward(model.get_decoder()))


@contextmanager
def _again(model: Any, attention: str, last: nn.Module | None) -> Iterator[None]:
    with attention_function(model, attention), feeding_forward_through(model.get_decoder(), last):
        yield


class _Through(nn.Module):
    """Stands in for a layer, or the final norm, that is not to be run."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The hidden states as they are."""
        return hidden_states


_THROUGH = _Through()


@contextmanager
def without_layers(decoder: Any, numbers: Iterable[int]) -> Iterator[None]:
    """Let hidden states pass through the layers ``numbers`` as they are."""
    layers = decoder.layers._modules  # a ModuleList cannot be sliced in place; names stay, as hooks and PEFT need them
    taken = {str(number): layers[str(number)] for number in numbers}
    layers.update(dict.fromkeys(taken, _THROUGH))
    try:
        yield
    finally:
        layers.update(taken)


@contextmanager
def _only_layers(decoder: Any, first: int, last: int | None) -> Iterator[None]:
    end = len(decoder.layers) if last is None else last
    norm = decoder.norm
    if last is not None:
        decoder.norm = _THROUGH
    try:
        with without_layers(decoder, [n for n in range(len(decoder.layers)) if not first <= n < end]):
            yield
    finally:
        decoder.norm = norm
