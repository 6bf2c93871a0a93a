"""Every saving, alone, in pairs and all together, computes the plain path's losses and gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from all_pairs import all_pairs
from equality_models import ARCHITECTURES, KINDS, PAD, PLACEMENTS, put_on
from equality_samples import (
    PLAIN,
    SWITCHES,
    Prover,
    Setting,
    Step,
    collation,
    residual,
    take_step,
    way_of,
)

from adapter_exp.training.batches import Collator

ADAPTERS = [kind for kind in KINDS if kind != "full"]
CHOICES = all_pairs(
    {
        "architecture": ARCHITECTURES,
        "kind": ADAPTERS,
        "layers": PLACEMENTS,
        "batch": (1, 4),
        "accumulation": (1, 4),
        "quantization": ("none", "nf4"),
        "chat": (True, False),
        **dict.fromkeys(SWITCHES, (False, True)),
    }
)


def name_of(choices: dict[str, Any]) -> str:
    return "-".join(
        f"{name}" if value is True else str(value).replace(" ", "")
        for name, value in choices.items()
        if value is not False
    )


@pytest.mark.parametrize("choices", CHOICES, ids=name_of)
def test_every_pair_of_choices(prover: Prover, choices: dict[str, Any]) -> None:
    setting = Setting(**{name: choices[name] for name in Setting._fields})
    assert prover.faults(setting, [switch for switch in SWITCHES if choices[switch]]) == []


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_saving_alone(prover: Prover, architecture: str, quantization: str) -> None:
    setting = Setting(architecture, "lora", quantization=quantization)
    found = {switch: prover.faults(setting, [switch]) for switch in SWITCHES}
    assert not any(found.values()), found


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_savings_together(prover: Prover, architecture: str, kind: str) -> None:
    assert prover.faults(Setting(architecture, kind, quantization="nf4"), SWITCHES) == []


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_full_fine_tuning(prover: Prover, architecture: str, batch: int) -> None:
    setting = Setting(architecture, "full", batch=batch, accumulation=2)
    ways = {switch: [switch] for switch in SWITCHES} | {"all": list(SWITCHES)}
    found = {name: prover.faults(setting, switches) for name, switches in ways.items()}
    assert not any(found.values()), found


def in_float64(prover: Prover, setting: Setting) -> Step:
    """The plain step in double precision."""
    base = prover.bases.get(setting.architecture)
    attached = put_on(base, KINDS[setting.kind](setting.layers))
    try:
        base.model.double()
        return take_step(attached, Collator(PAD), [prover.rows[setting.chat][: setting.batch]], PLAIN)
    finally:
        base.model.float()
        attached.detach()


@pytest.mark.parametrize("kind", ["lora", "mlp-both-parallel"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_savings_are_as_near_to_double_precision_as_the_plain_path(
    prover: Prover, architecture: str, kind: str
) -> None:
    setting = Setting(architecture, kind)
    exact = list(in_float64(prover, setting).gradients.values())
    errors = [
        residual(list(step.gradients.values()), exact).away
        for step in (prover.plain(setting), prover.step(setting, way_of(SWITCHES)))
    ]
    assert 1e-8 < errors[0] < 1e-5
    assert errors[1] < 1.5 * errors[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_left_is_rounding_around_zero(prover: Prover, architecture: str) -> None:
    """Over many adapters and batches the residuals of losses and gradients have a mean of zero."""
    base, way, rows = prover.bases.get(architecture), way_of(SWITCHES), prover.rows[True]
    losses, leanings = [], []
    for seed in range(16):
        attached = put_on(base, KINDS["lora"]("last:2"), seed=seed)
        batch = [rows[(seed + 5 * number) % 16] for number in range(2)]
        fast = take_step(attached, collation(attached, base, rows, way, prover.store), [batch], way)
        plain = take_step(attached, Collator(PAD), [batch], PLAIN)
        attached.detach()
        losses.append(fast.loss / plain.loss - 1)
        leanings.append(residual(list(fast.gradients.values()), list(plain.gradients.values())).along)
    for residuals in (torch.tensor(losses), torch.tensor(leanings)):
        assert abs(residuals.mean()) < 5 * residuals.std() / math.sqrt(len(residuals)) < 1e-6
