"""One training step computed in several ways, and what must be equal between them.

A new saving is one more line of ``PLAIN`` and of ``SWITCHES``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from equality_models import KINDS, PAD, Bases, Stored, put_on
from torch import Tensor

from adapter_exp.adapters import Attached
from adapter_exp.data.rendering import Renderer, TrainingRow
from adapter_exp.engine.frozen import Freezer
from adapter_exp.engine.fused import fused_modules
from adapter_exp.engine.packed import PackedCollator
from adapter_exp.engine.plan import plan_savings
from adapter_exp.engine.specs import SpeedConfig
from adapter_exp.engine.store import StateStore
from adapter_exp.training.batches import Collate, Collator
from adapter_exp.training.loss import answer_loss_sum

LOSS_TOLERANCE = 1e-6
GRADIENT_TOLERANCE = 1e-5
RESIDUAL_TOLERANCE = 1e-6

PLAIN: dict[str, Any] = {
    "answer_only_logits": False,
    "packing": False,
    "shared_prefix": "never",
    "frozen_cache": False,
    "fused": False,
    "keep": "4bit",
}
SWITCHES: dict[str, Any] = {
    "answer_only_logits": True,
    "packing": True,
    "shared_prefix": "always",
    "frozen_cache": True,
    "fused": True,
    "keep": "dequantised",
}
"""Each saving and the value that turns it on."""


def way_of(switches: Iterable[str]) -> dict[str, Any]:
    """The plain path with these savings on, and with what they need: two of them work on packed rows."""
    way = PLAIN | {name: SWITCHES[name] for name in switches}
    packed = way["packing"] or way["shared_prefix"] != "never" or way["frozen_cache"]
    return way | {"packing": packed}


class Setting(NamedTuple):
    """What a step is taken on: ``accumulation`` batches of ``batch`` rows."""

    architecture: str
    kind: str
    layers: str | tuple[int, ...] = "last:2"
    batch: int = 4
    accumulation: int = 1
    quantization: str = "none"
    chat: bool = True


@dataclass(frozen=True)
class Step:
    """Mean loss in nats per answer token of one optimiser step, and its gradients by parameter."""

    loss: float
    gradients: dict[str, Tensor]


class Prover:
    """Takes the same step in different ways.

    Args:
        store: folder of frozen states, one for all that is proved, as the jobs of a sweep share one.
    """

    def __init__(self, bases: Bases, tokenizer: Any, store: Path) -> None:
        self.bases = bases
        self.rows = {chat: rendered(tokenizer, chat=chat) for chat in (True, False)}
        self.store = store
        self._plain: dict[Setting, Step] = {}

    def plain(self, setting: Setting) -> Step:
        """The reference: padded rows, every logit, every layer, 4-bit weights unpacked at each use."""
        if setting not in self._plain:
            self._plain[setting] = self.step(setting, PLAIN)
        return self._plain[setting]

    def step(self, setting: Setting, way: dict[str, Any]) -> Step:
        """The step as ``way`` computes it, with an adapter drawn from the same seed."""
        base = self.bases.get(setting.architecture, setting.quantization, way["keep"])
        rows = self.rows[setting.chat]
        count = setting.batch * setting.accumulation
        batches = [rows[start : start + setting.batch] for start in range(0, count, setting.batch)]
        attached = put_on(base, KINDS[setting.kind](setting.layers))
        try:
            return take_step(attached, collation(attached, base, rows, way, self.store), batches, way)
        finally:
            attached.detach()

    def faults(self, setting: Setting, switches: Iterable[str]) -> list[str]:
        """Where the step with these savings is not the plain one."""
        return faults(self.step(setting, way_of(switches)), self.plain(setting))


def rendered(tokenizer: Any, *, chat: bool) -> list[TrainingRow]:
    """16 rows of one instruction, 38 to 95 tokens, in a chat template or as plain text."""
    renderer = Renderer(tokenizer, system="Find the towns.", chat=chat, max_length=256)
    towns = ("Perm", "Ufa", "Petropavlovsk", "Omsk", "Tver")
    rows = []
    for number in range(16):
        there, here = towns[number % 5], towns[(number * 3 + 1) % 4]
        user = f"From {there} to {here}" + ", then home" * (number % 3)
        rows.append(renderer.training_row(user, f"{there}, {here}" if number % 4 else there))
    return rows


def collation(
    attached: Attached, base: Stored, rows: Sequence[TrainingRow], way: dict[str, Any], store: Path
) -> Collate:
    """The collator that ``way`` comes to for this adapter, made as a run makes it."""
    fields = SpeedConfig.model_fields.keys() & way.keys()
    savings = plan_savings(SpeedConfig(**{name: way[name] for name in fields}), attached)
    if not savings.packed:
        return Collator(PAD)
    frozen = None
    if savings.cut:
        kept = StateStore(store, max_bytes=1 << 30)
        freezer = Freezer(attached.model, kept, weights_sha256=base.sha256, dtype=torch.float32)
        frozen = freezer.freeze([row.ids for row in rows], savings.cut)
    return PackedCollator(share_prefix=savings.shared_prefix, frozen=frozen)


def take_step(
    attached: Attached, collate: Collate, batches: Sequence[Sequence[TrainingRow]], way: dict[str, Any]
) -> Step:
    """Forward and backward passes over the batches of one accumulation window, in training mode."""
    model = attached.model
    model.train()
    tokens = [sum(len(row.ids) - max(row.prompt_tokens, 1) for row in batch) for batch in batches]
    loss = 0.0
    with fused_modules(model) if way["fused"] else nullcontext():
        for batch, expected in zip(batches, tokens, strict=True):
            total, counted = answer_loss_sum(
                model, collate(batch), answer_only_logits=way["answer_only_logits"], fused=way["fused"]
            )
            assert int(counted) == expected
            (total / sum(tokens)).backward()
            loss += float(total.detach()) / sum(tokens)
    gradients = {name: value.grad.clone() for name, value in attached.parameters().items()}
    model.zero_grad()
    model.eval()
    return Step(loss, gradients)


class Residual(NamedTuple):
    """How far one step's gradients are from another's, in units of the latter's norm.

    Attributes:
        away: norm of the difference.
        mean: mean of the difference, over the root mean square of the gradient.
        along: part of the difference along the gradient; above 0 when it is too long.
    """

    away: float
    mean: float
    along: float


def residual(one: Sequence[Tensor], right: Sequence[Tensor], *, norm_at_least: float = 0.0) -> Residual:
    """``one`` minus ``right``, all their tensors as one vector."""
    flat = torch.cat([tensor.flatten().double() for tensor in right])
    difference = torch.cat([tensor.flatten().double() for tensor in one]) - flat
    norm = max(float(flat.norm()), norm_at_least)
    return Residual(
        float(difference.norm()) / norm,
        float(difference.mean()) * math.sqrt(len(flat)) / norm,
        float(difference @ flat) / norm**2,
    )


def faults(one: Step, plain: Step, *, smallest: float = 0.0) -> list[str]:
    """Where ``one`` is not the plain step.

    Losses are to be equal to 1e-6 and the gradient of each parameter to 1e-5, both relative. What is left is
    rounding: it leans neither to one side nor to longer or shorter gradients.

    Args:
        smallest: a parameter's gradient counts as no smaller than this share of the whole gradient. Some vanish but
            for rounding: those of queries that see one key.
    """
    found = []
    if not abs(one.loss - plain.loss) <= LOSS_TOLERANCE * abs(plain.loss):
        found.append(f"loss {one.loss} instead of {plain.loss}")
    assert one.gradients.keys() == plain.gradients.keys()
    names = list(plain.gradients)
    least = smallest * math.sqrt(sum(float(value.norm()) ** 2 for value in plain.gradients.values()))
    for name in names:
        left = residual([one.gradients[name]], [plain.gradients[name]], norm_at_least=least)
        if not left.away <= GRADIENT_TOLERANCE:
            found.append(f"{name}: the residual is {left.away:.1e} of the gradient")
    whole = residual([one.gradients[name] for name in names], [plain.gradients[name] for name in names])
    if not max(abs(whole.mean), abs(whole.along)) <= RESIDUAL_TOLERANCE:
        found.append(f"the residual leans: mean {whole.mean:.1e}, along the gradient {whole.along:.1e}")
    return found
