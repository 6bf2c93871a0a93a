"""Answer-only logits equal the plain path: losses and gradients."""

from __future__ import annotations

import pytest
import torch

from adapter_exp.data.rendering import TrainingRow
from adapter_exp.training.batches import Collator
from adapter_exp.training.loss import answer_loss_sum


def batch_of(*lengths: tuple[int, int]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = [
        TrainingRow(torch.randint(0, 255, (prompt + answer,), generator=generator).tolist(), prompt, truncated=False)
        for prompt, answer in lengths
    ]
    return Collator(0)(rows)


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_answer_only_equals_plain(tiny_model, softcap):
    model = tiny_model.requires_grad_(True)
    if softcap:
        pytest.importorskip("transformers.models.gemma2")
        from transformers import Gemma2Config, Gemma2ForCausalLM

        torch.manual_seed(0)
        model = Gemma2ForCausalLM(
            Gemma2Config(
                vocab_size=261, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=1, head_dim=16, final_logit_softcapping=softcap,
            )
        )  # fmt: skip
    batch = batch_of((20, 5), (3, 9), (11, 1))
    results = {}
    for answer_only in (True, False):
        model.zero_grad()
        loss, tokens = answer_loss_sum(model, batch, answer_only_logits=answer_only)
        (loss / tokens).backward()
        results[answer_only] = loss.item(), [p.grad.clone() for p in model.parameters()]
        assert int(tokens) == 15
    assert results[True][0] == pytest.approx(results[False][0], rel=1e-6)
    for fast, plain in zip(results[True][1], results[False][1], strict=True):
        difference = fast - plain
        assert difference.abs().max() <= 1e-5 * max(plain.abs().max(), 1e-3)
        assert abs(difference.mean()) <= 1e-6 * max(plain.abs().max(), 1e-3)


def test_loss_is_the_models_own(tiny_model):
    batch = batch_of((8, 4), (5, 5))
    loss, tokens = answer_loss_sum(tiny_model, batch, answer_only_logits=True)
    own = tiny_model(**batch).loss
    assert (loss / tokens).item() == pytest.approx(own.item(), rel=1e-6)


def test_padding_changes_nothing(tiny_model):
    together, _ = answer_loss_sum(tiny_model, batch_of((20, 5), (3, 9)), answer_only_logits=True)
    batch = batch_of((20, 5), (3, 9))
    apart = 0.0
    for i in range(2):
        n = int(batch["attention_mask"][i].sum())
        loss, _ = answer_loss_sum(tiny_model, {k: v[i : i + 1, :n] for k, v in batch.items()}, answer_only_logits=True)
        apart += loss.item()
    assert together.item() == pytest.approx(apart, rel=1e-5)
