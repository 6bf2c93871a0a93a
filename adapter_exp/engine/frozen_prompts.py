"""What the layers below an adapter make of prompts, kept for all adapters above: their states, keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapter_exp.engine.decode import NAME as SLOTS
from adapter_exp.engine.decode import attend_packed
from adapter_exp.engine.frozen import FrozenLayers, FrozenStates, Pass, Row, batches, row_key, without_repeats
from adapter_exp.engine.layout import Layout, in_order

# Of the store for one set of prompts: their keys and values weigh many times what the states of training rows do.
_SHARE = 1 / 4


@dataclass(frozen=True)
class KeptPrompts:
    """Prompts that have passed the layers below a cut.

    Attributes:
        rows: by token, the state entering the cut, then every lower layer's keys and values, all heads of each.
        width: of the states.
        key_heads, head_width: of a layer's keys and values.
    """

    rows: FrozenStates
    width: int
    key_heads: int
    head_width: int

    @property
    def cut(self) -> int:
        """The layer that the states enter."""
        return self.rows.cut

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
    freezer, config = frozen.freezer, frozen.freezer.model.config
    # A GPU computes keys and values sooner than a disk reads them. Kept are numbers of one dtype.
    if freezer.model.device.type != "cpu" or freezer.dtype != freezer.state_dtype():
        return None
    key_heads = config.num_key_value_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_layer = 2 * key_heads * head_width
    rows, head = without_repeats(prompts)
    tokens = len(in_order(rows, len(head)))
    width = config.hidden_size + frozen.cut * per_layer
    if not freezer.room_for_tokens(round(tokens / _SHARE), width=width):
        frozen.on_unkept(
            f"speed.frozen_cache: not used for prompts, {tokens} tokens take over {_SHARE:.0%} of its room."
        )
        return None

    def computed(due: list[int], layer: int, below: FrozenStates | None) -> Iterator[Pass]:
        for batch in batches(due, rows, len(head)):
            yield batch, _computed(frozen, [rows[k] for k in batch], len(head), layer, below)

    kept = freezer.keep(frozen.cut, head, list(map(row_key, rows)), computed, kind="prompts", width_below=per_layer)
    return KeptPrompts(kept, config.hidden_size, key_heads, head_width)


def _computed(
    frozen: FrozenLayers, rows: Sequence[Row], prefix: int, layer: int, below: FrozenStates | None
) -> Sequence[Tensor]:
    """What is kept of the first ``prefix`` tokens, then of each row's own, entering ``layer``."""
    freezer = frozen.freezer
    run = _Keeping(Layout([len(row) - prefix for row in rows], prefix=prefix).to(freezer.model.device))
    states, known = None, []
    if below is not None:
        states, lower = below.states(rows, prefix).tensor_split([freezer.model.config.hidden_size], dim=1)
        known = [lower]
    made = freezer.run(run, in_order(rows, prefix), states, below.cut if below else 0, layer, attention=SLOTS)
    return torch.split(torch.cat([made, *known, *run.kept], dim=1), [prefix, *run.layout.rows])


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
        """See ``decode._Run``; the keys and values are noted."""
        self.kept += [one.transpose(0, 1).flatten(1) for one in (key, value)]
        return attend_packed(module, self.layout, query, key, value, scaling, window)
