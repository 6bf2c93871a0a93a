"""In the last layer, the feed-forward part runs over the tokens that predict an answer; that it changes nothing is
proven where all savings are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from equality_models import ARCHITECTURES, KINDS, LAYERS, Bases, put_on

from adapter_exp.data.rendering import TrainingRow
from adapter_exp.engine.decode import AnswerBatch
from adapter_exp.engine.packed import PackedCollator
from adapter_exp.training.activations import checkpoint_activations
from adapter_exp.training.compiling import compiled_layers
from adapter_exp.training.loss import answer_loss_sum

PROMPT, ANSWER = 12, 3
ROWS = [TrainingRow([first, *range(PROMPT + ANSWER - 1)], PROMPT, truncated=False) for first in (1, 2)]
TOKENS, ANSWERS = 2 * (PROMPT + ANSWER), 2 * ANSWER


@contextmanager
def widths(model) -> Iterator[list[int]]:
    """How many tokens went through the ``up_proj`` of each layer, in the order of the calls."""
    seen: list[int] = []
    handles = [
        module.register_forward_hook(lambda _, inputs, output: seen.append(output.shape[-2]))
        for name, module in model.named_modules()
        if name.endswith("mlp.up_proj") or name.endswith("mlp.base_layer.up_proj")
    ]
    assert len(handles) == LAYERS
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["lora", "mlp-block-sequential", "mlp-feed_forward-parallel"])
def test_training_feeds_forward_what_predicts_an_answer(bases: Bases, architecture: str, kind: str) -> None:
    attached = put_on(bases.get(architecture), KINDS[kind]("all"))
    try:
        with widths(attached.model) as seen:
            loss, _ = answer_loss_sum(attached.model, PackedCollator(share_prefix=False)(ROWS), answer_only_logits=True)
            assert seen == [TOKENS] * (LAYERS - 1) + [ANSWERS]
            loss.backward()
        with widths(attached.model) as seen:
            answer_loss_sum(attached.model, PackedCollator(share_prefix=False)(ROWS), answer_only_logits=False)
            assert seen == [TOKENS] * LAYERS
    finally:
        attached.detach()


def test_prompts_feed_forward_their_last_token(bases: Bases) -> None:
    model = bases.get("llama").model
    batch = AnswerBatch(model, ROWS[0].ids, 0, rows=2, capacity=TOKENS)
    with widths(model) as seen, torch.no_grad():
        batch.prefill([row.ids for row in ROWS])
    assert seen == [TOKENS] * (LAYERS - 1) + [2]


def test_a_checkpointed_layer_runs_again_as_it_ran(bases: Bases) -> None:
    attached = put_on(bases.get("llama"), KINDS["lora"]("all"))
    attached.model.train()
    checkpoint_activations(attached)
    try:
        with widths(attached.model) as seen:
            batch = PackedCollator(share_prefix=False)(ROWS)
            answer_loss_sum(attached.model, batch, answer_only_logits=True)[0].backward()
        assert seen == [TOKENS] * (LAYERS - 1) + [ANSWERS] * 2 + [TOKENS] * (LAYERS - 1)
    finally:
        attached.model.activation_checkpointing_disable()
        attached.model.eval()
        attached.detach()


def test_a_compiled_layer_is_whole(bases: Bases) -> None:
    model = bases.get("llama").model
    eager = torch.compiler.set_stance("force_eager")  # what a compiler makes of it does not matter here
    with compiled_layers(model, 0), eager, widths(model) as seen:
        answer_loss_sum(model, PackedCollator(share_prefix=False)(ROWS), answer_only_logits=True)
    assert seen == [TOKENS] * LAYERS
