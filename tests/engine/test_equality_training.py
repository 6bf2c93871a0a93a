"""Training with savings ends where the plain path ends: the loss curve and the adapter after 20 steps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from equality_models import ARCHITECTURES, KINDS, LAYERS, put_on
from equality_samples import SWITCHES, Prover, Setting, collation, residual, way_of
from torch import Tensor
from training_samples import Trained, run, settings

from adapter_exp.adapters import Attached

ADAPTER_TOLERANCE = 1e-4
CURVE_TOLERANCE = 1e-6


def trained(
    prover: Prover, setting: Setting, switches: Iterable[str], run_dir: Path, *, steps: int = 20, **changes: Any
) -> tuple[Trained, dict[str, Tensor]]:
    """A fresh adapter after ``steps`` steps on 12 rows, with the loss of 4 others at the end; and its first weights."""
    way, rows = way_of(switches), prover.rows[setting.chat]
    base = prover.bases.get(setting.architecture, setting.quantization, way["keep"])
    spec = KINDS[setting.kind](setting.layers)
    attached = put_on(base, spec)
    collate = collation(attached, base, rows, way, prover.store)
    attached.detach()
    start: dict[str, Tensor] = {}

    def remember(attached: Attached) -> None:
        start.update({name: value.detach().clone() for name, value in attached.parameters().items()})

    ended = run(
        base.model,
        run_dir,
        settings(
            max_steps=steps,
            batch_size=setting.batch,
            gradient_accumulation_steps=setting.accumulation,
            answer_only_logits=way["answer_only_logits"],
            eval_steps=steps,
            save_steps=steps,
            **changes,
        ),
        spec=spec,
        quantization=setting.quantization,
        train_rows=rows[:12],
        validation_rows=rows[12:],
        collate=collate,
        fused=way["fused"],
        prepare=remember,
    )
    return ended, start


def assert_equal(prover: Prover, setting: Setting, switches: Iterable[str], run_dir: Path, **changes: Any) -> None:
    """With and without the savings, the losses are the same and the adapter goes the same way."""
    fast, first = trained(prover, setting, switches, run_dir / "fast", **changes)
    plain, start = trained(prover, setting, (), run_dir / "plain")
    assert fast.result is not None
    assert plain.result is not None
    for fast_curve, plain_curve in (
        (fast.result.loss, plain.result.loss),
        (fast.result.validation_loss, plain.result.validation_loss),
    ):
        assert len(fast_curve) == len(plain_curve) > 0
        assert [loss for _, loss in fast_curve] == pytest.approx([x for _, x in plain_curve], rel=CURVE_TOLERANCE)
    assert plain.result.loss[-1][1] < plain.result.loss[0][1] - 0.1
    assert all(torch.allclose(first[name], value, rtol=1e-6) for name, value in start.items())
    moved = [[end.weights[name] - start[name] for name in start] for end in (fast, plain)]
    assert residual(*moved).away < ADAPTER_TOLERANCE


@pytest.mark.parametrize(
    ("setting", "changes"),
    [
        (Setting("llama", "lora"), {}),
        (Setting("llama", "dora", "last:3", batch=2), {"activation_checkpointing": True}),
        (Setting("mistral", "lora_mlp", quantization="nf4", batch=1, accumulation=4), {}),
        (Setting("gemma3", "mlp-both-parallel", (1, 3), chat=False, batch=3), {}),
    ],
    ids=["llama-lora", "llama-dora-checkpointing", "mistral-lora_mlp-nf4-accumulated", "gemma3-mlp"],
)
def test_adapter_after_20_steps(prover: Prover, tmp_path: Path, setting: Setting, changes: dict[str, Any]) -> None:
    assert_equal(prover, setting, SWITCHES, tmp_path, **changes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "full"])
def test_every_kind_after_20_steps(prover: Prover, tmp_path: Path, kind: str) -> None:
    """Architectures, placements, accumulation, quantisation and template take turns."""
    number = list(KINDS).index(kind)
    setting = Setting(
        ARCHITECTURES[number % 4 % 3],
        kind,
        ("last:2", "every:2", (1, 3))[number % 3],
        accumulation=(1, 4)[number // 3 % 2],
        quantization=("none", "nf4")[number // 2 % 2],
        chat=bool(number % 2),
    )
    assert_equal(prover, setting, SWITCHES, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("switch", SWITCHES)
def test_every_saving_alone_after_20_steps(prover: Prover, tmp_path: Path, switch: str) -> None:
    architecture = ARCHITECTURES[list(SWITCHES).index(switch) % 3]
    setting = Setting(architecture, "lora", quantization="nf4", batch=2, accumulation=2)
    assert_equal(prover, setting, [switch], tmp_path)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_frozen_layers_are_never_called_in_training(prover: Prover, tmp_path: Path, architecture: str) -> None:
    """Nor to make the states anew: training leaves no trace on the model that would change their key."""
    setting = Setting(architecture, "lora", "last:1")
    trained(prover, setting, ["frozen_cache"], tmp_path / "first", steps=1)  # the states are kept from here on
    called: set[int] = set()
    layers = prover.bases.get(architecture).model.get_decoder().layers
    hooks = [
        layer.register_forward_hook(lambda *_, number=number: called.add(number)) for number, layer in enumerate(layers)
    ]
    try:
        trained(prover, setting, ["frozen_cache"], tmp_path / "second", steps=3)
    finally:
        for hook in hooks:
            hook.remove()
    assert called == {LAYERS - 1}
