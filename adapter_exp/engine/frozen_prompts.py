"""What the layers below an adapter make of prompts, kept for all adapters above: their states, keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapter_exp.engine.decode import NAME, attend_packed
from adapter_exp.engine.decoder import embed, run_layers
from adapter_exp.engine.frozen import FrozenLayers, FrozenStates, Pass, Row, batches, row_key, without_repeats
from adapter_exp.engine.layout import Layout

# Of the store at most: a prompt's keys and values weigh many times what the states of a training row do.
_SHARE = 1 / 4


@dataclass(frozen=True)
class KeptPrompts:
    """Prompts that have passed the layers below ``cut``.

    Attributes:
        rows: by token, the state entering the cut, then every lower layer's keys and values, all heads of each.
        key_heads, head_width: of a layer's keys and values.
    """

    cut: int
    rows: FrozenStates
    width: int
    key_heads: int
    head_width: int

    def parts(
        self, prompts: Sequence[Row], start: int, end: int | None, device: torch.device
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """What is kept of the tokens ``start`` to ``end`` of each prompt.

        Returns:
            states entering the cut (tokens, width); by lower layer, keys and values (key heads, tokens, head width).
        """
        found = self.rows.span(prompts, start, end).to(device)
        below = found[:, self.width :].view(len(found), self.cut, 2, self.key_heads, self.head_width)
        layers = below.permute(1, 2, 3, 0, 4)
        return found[:, : self.width], [(layer[0], layer[1]) for layer in layers]


def keep_prompts(frozen: FrozenLayers, prompts: Sequence[Row]) -> KeptPrompts | None:
    """Read or compute what the frozen layers make of ``prompts``; None where that would not pay or not fit."""
    freezer, cut = frozen.freezer, frozen.cut
    config, dtype = freezer.model.config, freezer.state_dtype()
    if freezer.model.device.type != "cpu" or freezer.dtype != dtype:
        return None  # a GPU computes keys and values sooner than a disk reads them
    key_heads = config.num_key_value_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = config.hidden_size + cut * 2 * key_heads * head_width
    rows, head = without_repeats(prompts)
    tokens = len(head) + sum(len(row) - len(head) for row in rows)
    if not freezer.store.room_for(round(tokens * width * dtype.itemsize / _SHARE)):
        return None

    def computed(due: list[int]) -> Iterator[Pass]:
        for batch in batches(due, rows, len(head)):
            yield batch, _run(frozen, [rows[k] for k in batch], len(head))

    keys = list(map(row_key, rows))
    first, own = freezer.keep(freezer.space(cut, head, "prompts"), head, keys, computed, width=width)
    states = FrozenStates(cut, first, dict(zip(keys, own, strict=True)))
    return KeptPrompts(cut, states, config.hidden_size, key_heads, head_width)


@torch.no_grad()
def _run(frozen: FrozenLayers, rows: Sequence[Row], prefix: int) -> list[Tensor]:
    """What is kept of the first ``prefix`` tokens, then of each row's own."""
    model = frozen.freezer.model
    run = _Keeping(Layout([len(row) - prefix for row in rows], prefix=prefix).to(model.device))
    tokens = [*rows[0][:prefix], *(token for row in rows for token in row[prefix:])]
    states = embed(model, torch.tensor(tokens, device=model.device))
    states = run_layers(model, run, states, last=frozen.cut, attention=NAME)
    return list(torch.split(torch.cat([states, *run.kept], dim=1), [prefix, *run.layout.rows]))


class _Keeping:
    """Prompts of one pass, whose keys and values are kept.

    Attributes:
        kept: layer by layer, keys and values, (tokens, key heads x head width) each.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.positions = layout.positions
        self.kept: list[Tensor] = []

    def attend(
        self, module: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None
    ) -> Tensor:
        self.kept += [one.transpose(0, 1).flatten(1) for one in (key, value)]
        return attend_packed(module, self.layout, query, key, value, scaling, window)
