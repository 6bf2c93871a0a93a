"""Whatever rows a batch has: any lengths, any shared beginning, any layers; and gradients through what is shared."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from equality_models import ARCHITECTURES, KINDS, PAD, PLACEMENTS, WINDOW, Bases, put_on
from equality_samples import PLAIN, collation, faults, take_step, way_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapter_exp.adapters import Attached
from adapter_exp.data.rendering import TrainingRow
from adapter_exp.engine.packed import PackedCollator
from adapter_exp.training.batches import Collate, Collator
from adapter_exp.training.loss import answer_loss_sum

LONGEST = 3 * WINDOW


@st.composite
def batches(draw: st.DrawFn) -> list[TrainingRow]:
    """1 to 5 rows that share nothing, their first token, more of their prompts, or all of them."""
    size = draw(st.integers(1, 5))
    shared = draw(st.sampled_from(["nothing", "one token", "a part", "whole prompts"]))
    common = {"nothing": 0, "one token": 1, "whole prompts": LONGEST}.get(shared) or draw(st.integers(2, LONGEST))
    numbers = draw(st.randoms(use_true_random=False))
    head = [numbers.randrange(256) for _ in range(LONGEST)]
    prompt = draw(st.integers(1, LONGEST))
    rows = []
    for row in range(size):
        length = prompt if shared == "whole prompts" else draw(st.integers(1, LONGEST))
        if shared == "nothing":
            ids = [row, *(numbers.randrange(256) for _ in range(length - 1))]
        else:
            ids = head[: min(common, length)]
            ids += [numbers.randrange(256) for _ in range(length - len(ids))]
        answer = [numbers.randrange(256) for _ in range(draw(st.integers(1, WINDOW + 2)))]
        rows.append(TrainingRow(ids + answer, length, truncated=False))
    return rows


@settings(max_examples=30, deadline=None)
@given(
    rows=batches(),
    architecture=st.sampled_from(ARCHITECTURES),
    kind=st.sampled_from(["lora", "mlp-attention-parallel"]),
    layers=st.sampled_from(PLACEMENTS),
    share=st.sampled_from(["shared_prefix", "packing"]),
    cached=st.booleans(),
)
def test_any_batch(
    bases: Bases,
    rows: list[TrainingRow],
    architecture: str,
    kind: str,
    layers: Any,
    share: str,
    cached: bool,
) -> None:
    base = bases.get(architecture)
    way = way_of([share, "answer_only_logits", "fused", *(["frozen_cache"] if cached else [])])
    attached = put_on(base, KINDS[kind](layers))
    try:
        plain = take_step(attached, Collator(PAD), [rows], PLAIN)
        with tempfile.TemporaryDirectory() as store:
            fast = take_step(attached, collation(attached, base, rows, way, Path(store)), [rows], way)
        assert faults(fast, plain, smallest=0.1) == []
    finally:
        base.model.zero_grad()
        attached.detach()


def same_prompt(count: int, *, prompt: int, different: int) -> list[TrainingRow]:
    """Rows of one prompt but for its last tokens, with answers of 1, 2, 3... tokens."""
    head = list(range(3, 3 + prompt - different))
    return [
        TrainingRow([*head, *(100 + row for _ in range(different)), *range(200, 201 + row)], prompt, truncated=False)
        for row in range(count)
    ]


@pytest.mark.parametrize(("different", "computed"), [(0, 29), (1, 29), (5, 25), (30, 0)])
def test_the_prefix_stops_before_the_token_that_predicts_the_answer(different: int, computed: int) -> None:
    rows = same_prompt(3, prompt=30, different=different)
    assert PackedCollator(share_prefix=True)(rows)["layout"].prefix == computed
    assert PackedCollator(share_prefix=True).computed_tokens(rows) == computed + 3 * (30 - computed) + 6
    assert PackedCollator(share_prefix=True)(rows[:1])["layout"].prefix == 0


def value_gradients(attached: Attached, collate: Collate, rows: list[TrainingRow]) -> Tensor:
    """Gradient of the loss with respect to the values of layer 0, (..., value width)."""
    seen: list[Tensor] = []

    def watch(_: Any, __: Any, output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    hook = attached.model.get_decoder().layers[0].self_attn.v_proj.register_forward_hook(watch)
    try:
        loss, _ = answer_loss_sum(attached.model, collate(rows), answer_only_logits=False)
        loss.backward()
    finally:
        hook.remove()
        attached.model.zero_grad()
    (values,) = seen
    assert values.grad is not None
    return values.grad


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradients_flow_back_through_the_shared_prefix(bases: Bases, architecture: str) -> None:
    """The gradient of a shared token is the sum of its rows' gradients, down to an adapter on layer 0."""
    rows = same_prompt(4, prompt=30, different=5)
    attached = put_on(bases.get(architecture), KINDS["lora"]("first:1"))
    padded = value_gradients(attached, Collator(PAD), rows)
    shared = value_gradients(attached, PackedCollator(share_prefix=True), rows)[0]
    attached.detach()
    prefix = padded[:, :25].sum(0)
    assert prefix.norm(dim=-1).min() > 1e-3
    assert (shared[:25] - prefix).norm() < 1e-5 * prefix.norm()
    own = torch.cat([padded[number, 25 : len(row.ids)] for number, row in enumerate(rows)])
    assert (shared[25:] - own).norm() < 1e-5 * own.norm()
