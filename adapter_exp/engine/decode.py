"""Answering many prompts at once: prompts as runs of tokens without padding, then a token for every row at a time."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AttentionInterface

from adapter_exp.engine.attention import packed_attention
from adapter_exp.engine.decoder import embed, run_layers
from adapter_exp.engine.head import project
from adapter_exp.engine.layout import Layout
from adapter_exp.engine.slots import Slots

if TYPE_CHECKING:
    from adapter_exp.engine.frozen_prompts import KeptPrompts

NAME = "adapter_exp_slots"


class AnswerBatch:
    """Rows in slots, and the passes that fill them.

    Args:
        first: token ids of any of the prompts.
        prefix: how many of them all prompts begin with; these are run once, here.
        rows: how many are answered at a time.
        capacity: tokens of one row's prompt and answer beyond the prefix.
        kept: prompts that have passed the lower layers already; None: all layers run.
    """

    def __init__(
        self,
        model: Any,
        first: Sequence[int],
        prefix: int,
        *,
        rows: int,
        capacity: int,
        kept: KeptPrompts | None = None,
    ) -> None:
        self.model = model
        self.slots = Slots(rows, capacity)
        self._kept = kept
        if prefix:
            self._run(_Prefix(self.slots, prefix, model.device), [first], 0, prefix)
            self.slots.prefix = prefix

    def prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Take rows into the next free slots; returns the logits after each, (rows, vocabulary), fp32.

        Args:
            prompts: their tokens, the prefix and at least one more each.
        """
        prefix = self.slots.prefix
        run = _Prompts(self.slots, [len(prompt) - prefix for prompt in prompts], self.model.device)
        return self._logits(self._run(run, prompts, prefix, None, read=run.last))

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Append one token to each row in use; returns the next logits (rows, vocabulary), fp32."""
        states = embed(self.model, torch.tensor(tokens, device=self.model.device))
        return self._logits(run_layers(self.model, _Step(self.slots, self.model.device), states, attention=NAME))

    def free(self, slots: Sequence[int]) -> list[int]:
        """Take rows out; see ``Slots.free``."""
        return self.slots.free(slots)

    def _run(
        self,
        run: _Prefix | _Prompts,
        prompts: Sequence[Sequence[int]],
        start: int,
        end: int | None,
        read: Tensor | None = None,
    ) -> Tensor:
        """Run the tokens ``start`` to ``end`` of each prompt; the output of those to ``read``."""
        device, first = self.model.device, 0
        if self._kept is None:
            ids = [token for prompt in prompts for token in prompt[start:end]]
            states = embed(self.model, torch.tensor(ids, device=device))
        else:
            first = self._kept.cut
            states, layers = self._kept.parts(prompts, start, end, device)
            for layer, (keys, values) in enumerate(layers):
                run.take(layer, keys, values)
        return run_layers(self.model, run, states, first=first, read=read, attention=NAME)

    def _logits(self, hidden: Tensor) -> Tensor:
        return project(self.model, hidden).float()


class _Run(Protocol):
    """Tokens of one pass; what each may see is in ``attend``."""

    positions: Tensor  # in their sequences, (tokens,)

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """Attention output (tokens, heads, head width) of query, key and value (heads, tokens, head width)."""


def slot_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: _Run,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of a transformers decoder layer for the tokens of a run; see ``packed_attention`` for the shapes."""
    output = layout.attend(module, query[0], key[0], value[0], scaling, sliding_window)
    return output[None], None


class _Prefix:
    """The tokens that all rows begin with."""

    def __init__(self, slots: Slots, tokens: int, device: torch.device) -> None:
        self._slots = slots
        self._layout = Layout([tokens]).to(device)
        self.positions = self._layout.positions

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """See ``_Run``; the keys and values are held."""
        self.take(module.layer_idx, key, value)
        return attend_packed(module, self._layout, query, key, value, scaling, window)

    def take(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Hold one layer's keys and values, (key heads, tokens, head width)."""
        self._slots.hold(layer, keys, values)


class _Prompts:
    """Prompts that continue the shared prefix, each in a slot of its own.

    Attributes:
        last: index of each prompt's last token, (rows,).
    """

    def __init__(self, slots: Slots, lengths: Sequence[int], device: torch.device) -> None:
        self._slots = slots
        first = len(slots.lengths)
        self._rows = [first + row for row, length in enumerate(lengths) for _ in range(length)]
        self._columns = [column for length in lengths for column in range(length)]
        self._places: Tensor | None = None
        slots.lengths += lengths
        layout = Layout(lengths, prefix=slots.prefix).to(device)
        self.positions = layout.positions[slots.prefix :]
        self.last = layout.last_of_rows - slots.prefix
        self._layout = copy.copy(layout)
        self._layout.groups = layout.groups[-1:]  # the prefix has been run

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """See ``_Run``; the keys and values go into the slots, and the prefix is seen too."""
        slots, layer = self._slots, module.layer_idx
        self.take(layer, key, value)
        if slots.prefix:
            key, value = (torch.cat(pair, dim=1) for pair in zip(slots.shared(layer), (key, value), strict=True))
            query = pad(query, (0, 0, slots.prefix, 0))  # the layout counts the prefix; nothing asks for these queries
        return attend_packed(module, self._layout, query, key, value, scaling, window)

    def take(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Write one layer's keys and values, (key heads, tokens, head width), into the slots."""
        if self._places is None:
            self._places = self._slots.places(self._rows, self._columns, len(keys), keys.device)
        self._slots.write(layer, self._places, keys, values)


class _Step:
    """One more token of every row in use: plain products, as long rectangles of one query gain nothing from more."""

    def __init__(self, slots: Slots, device: torch.device) -> None:
        self._slots = slots
        self._columns = list(slots.lengths)
        slots.lengths = [length + 1 for length in slots.lengths]
        self._longest = max(slots.lengths)
        self.positions = torch.tensor(self._columns).to(device, non_blocking=True) + slots.prefix
        self._places: Tensor | None = None
        self._masks: dict[tuple[int | None, torch.dtype], Tensor] = {}

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        """See ``_Run``; each row sees the prefix and what is in its slot."""
        slots, layer = self._slots, module.layer_idx
        (heads, rows, width), key_heads = query.shape, len(key)
        repeats, prefix = heads // key_heads, slots.prefix
        if self._places is None:
            self._places = slots.places(range(rows), self._columns, key_heads, key.device)
        slots.write(layer, self._places, key, value)
        keys, values = slots.own(layer, self._longest)  # (rows x key heads, longest, width)
        grouped = (query * (width**-0.5 if scaling is None else scaling)).reshape(key_heads, repeats, rows, width)
        own = grouped.permute(2, 0, 1, 3).reshape(rows * key_heads, repeats, width)
        scores = torch.bmm(own, keys.transpose(1, 2)).view(rows, key_heads, repeats, -1)
        if prefix:  # all rows and heads of a key head in one product
            shared_keys, shared_values = slots.shared(layer)
            shared = torch.bmm(grouped.reshape(key_heads, repeats * rows, width), shared_keys.transpose(1, 2))
            scores = torch.cat([shared.view(key_heads, repeats, rows, prefix).permute(2, 0, 1, 3), scores], dim=-1)
        weights = (scores + self._mask(window, scores.dtype)).softmax(dim=-1, dtype=torch.float32).to(values.dtype)
        output = torch.bmm(weights[..., prefix:].flatten(0, 1), values).view(rows, key_heads, repeats, width)
        if prefix:
            shared = weights[..., :prefix].permute(1, 2, 0, 3).reshape(key_heads, repeats * rows, prefix)
            shared = torch.bmm(shared, shared_values).view(key_heads, repeats, rows, width)
            output = output + shared.permute(2, 0, 1, 3)
        return output.reshape(rows, heads, width)

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """Additive (rows, 1, 1, prefix + longest): minus infinity beyond a row's own end and before its window."""
        if (window, dtype) not in self._masks:
            keys = torch.arange(self._slots.prefix + self._longest, device=self.positions.device)
            distance = self.positions[:, None] - keys
            unseen = (distance < 0) if window is None else (distance < 0) | (distance >= window)
            mask = torch.zeros(unseen.shape, dtype=dtype, device=unseen.device).masked_fill(unseen, float("-inf"))
            self._masks[window, dtype] = mask[:, None, None]
        return self._masks[window, dtype]


def attend_packed(
    module: Any,
    layout: Layout,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scaling: float | None,
    window: int | None,
) -> Tensor:
    """``_Run.attend`` for tokens that see one another as ``layout`` says."""
    batched = query[None], key[None], value[None]
    output, _ = packed_attention(module, *batched, None, layout=layout, scaling=scaling, sliding_window=window)
    return output[0]


AttentionInterface.register(NAME, slot_attention)
