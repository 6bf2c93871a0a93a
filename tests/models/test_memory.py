"""The memory estimate: golden values, and weights against what is really stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapter_exp.models.base import load_base, release_base
from adapter_exp.models.memory import KNOWN, Known, estimate, markdown_table, weight_bytes_estimate
from adapter_exp.models.specs import QuantizationConfig, TinyModel
from adapter_exp.models.weights import weight_bytes

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.shape.name)
def test_known_shapes_are_those_of_the_real_architectures(known: Known):
    from transformers import Gemma3TextConfig, LlamaConfig

    from adapter_exp.models.shape import shape_of_config

    shape, gemma = known.shape, known.shape.name.startswith("gemma3")
    head = 256 if gemma else 64
    config = (Gemma3TextConfig if gemma else LlamaConfig)(
        vocab_size=known.vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.linears["up_proj"][1],
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.linears["q_proj"][1] // head,
        num_key_value_heads=shape.linears["k_proj"][1] // head,
        head_dim=head,
        max_position_embeddings=shape.context_tokens,
        tie_word_embeddings=shape.name in ("smollm2_135m", "gemma3_270m"),
    )
    assert shape_of_config(config, shape.name) == shape


def test_every_shipped_model_is_known():
    shipped = {path.stem for path in (REPOSITORY / "conf" / "model").glob("*.yaml")}
    assert {known.shape.name for known in KNOWN} == shipped - {"hub", "folder", "tiny"}


@pytest.mark.parametrize("kind", ["none", "nf4", "int8"])
def test_weight_estimate_meets_the_stored_bytes(kind: str, tmp_path: Path):
    base = load_base(
        TinyModel(hidden_size=256, intermediate_size=1024),
        QuantizationConfig(kind=kind, keep="4bit" if kind == "nf4" else "auto"),
        cache_dir=tmp_path,
        device="cpu",
    )
    stored = weight_bytes(base.model)
    release_base()
    # Each nf4 weight also carries its code book and packed metadata, about 1.2 kB, which small weights feel.
    assert weight_bytes_estimate(base.shape, kind, 4) == pytest.approx(stored, rel=0.02 if kind != "nf4" else 0.05)


def test_parts_follow_the_formulae():
    shape, vocabulary = KNOWN[-1].shape, KNOWN[-1].vocabulary
    common = {"quantization": "nf4", "answer_tokens": 8, "dtype": "bfloat16", "vocabulary": vocabulary}
    one = estimate(shape, trainable=1000, batch=1, length_tokens=100, **common)
    two = estimate(shape, trainable=2000, batch=2, length_tokens=100, **common)
    assert (one.adapter, one.gradients, one.optimizer) == (4000, 4000, 8000)
    assert two.activations == 2 * one.activations and two.weights == one.weights
    assert one.total == one.weights + one.adapter + one.gradients + one.optimizer + one.activations
    # 6.98 billion weights in the blocks at 0.516 bytes and 1.05 billion in embeddings at 2: the usual "5.7 GB".
    assert one.weights / 1e9 == pytest.approx(5.70, abs=0.02)


def test_full_fine_tuning_counts_the_trained_weights_once():
    known = KNOWN[0]
    parameters = known.shape.parameters
    common = {"quantization": "none", "batch": 1, "length_tokens": 8, "answer_tokens": 8, "vocabulary": 100}
    full = estimate(known.shape, trainable=parameters, dtype="bfloat16", in_place=True, **common)
    assert (full.adapter, full.gradients, full.optimizer) == (0, 2 * parameters, 4 * parameters)
    assert full.weights == 2 * parameters


def test_table_has_a_row_for_every_model_and_quantisation():
    table = markdown_table()
    for known in KNOWN:
        rows = {kind: f"| {known.shape.name} | {known.dtype} | {kind} |" for kind in ("none", "int8", "nf4")}
        assert all(row in table for row in rows.values())
        refused = [line.endswith("| - |") for row in rows.values() for line in table.splitlines() if row in line]
        assert refused == [False, True, True]  # full fine-tuning of quantised weights


def test_readme_shows_this_table():
    assert markdown_table() in (REPOSITORY / "README.md").read_text(encoding="utf-8")
