"""Compiled layers train the same adapter, and leave the model as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from adapters.cases import load_tiny
from training_samples import rows, run, settings

from adapter_exp.adapters.specs import LoraSpec
from adapter_exp.engine.packed import PackedCollator


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_layers_change_nothing(tiny_folder: Path, tmp_path: Path):
    model = load_tiny(tiny_folder)
    plain, compiled = (
        run(
            model,
            tmp_path / str(value),
            settings(max_steps=3, learning_rate=2e-3, compile=value),
            spec=LoraSpec(r=4, layers="last:1"),
            train_rows=rows(12),
            collate=PackedCollator(share_prefix=True),
        )
        for value in (False, True)
    )
    assert plain.result is not None
    assert compiled.result is not None
    for (_, one), (_, other) in zip(plain.result.loss, compiled.result.loss, strict=True):
        assert one == pytest.approx(other, rel=1e-6)
    assert plain.furthest(compiled) < 1e-5
    assert all(layer._compiled_call_impl is None for layer in model.get_decoder().layers)
