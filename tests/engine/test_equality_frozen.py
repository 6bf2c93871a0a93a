"""Frozen states are the same numbers wherever they come from, and what is kept is not computed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from equality_models import ARCHITECTURES, KINDS, LAYERS, PAD, Stored, put_on
from equality_samples import PLAIN, Prover, Step, collation, faults, take_step, way_of

from adapter_exp.adapters.specs import LoraSpec
from adapter_exp.data.rendering import TrainingRow
from adapter_exp.engine.frozen import Freezer
from adapter_exp.engine.packed import PackedCollator
from adapter_exp.engine.store import StateStore
from adapter_exp.training.batches import Collator

WAY = way_of(["frozen_cache", "shared_prefix"])


@contextmanager
def layers_called(model: Any) -> Iterator[set[int]]:
    """Numbers of the decoder layers that run within the block."""
    called: set[int] = set()
    hooks = [
        layer.register_forward_hook(lambda *_, number=number: called.add(number))
        for number, layer in enumerate(model.get_decoder().layers)
    ]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def frozen_step(
    base: Stored, layers: str, rows: Sequence[TrainingRow], store: Path, *, kind: str = "lora"
) -> tuple[Step, set[int], set[int]]:
    """A step over the first 4 of ``rows``; the layers that ran for the states, and those that ran in the step."""
    attached = put_on(base, KINDS[kind](layers))
    try:
        with layers_called(base.model) as freezing:
            collate = collation(attached, base, rows, WAY, store)
        with layers_called(base.model) as stepping:
            return take_step(attached, collate, [rows[:4]], WAY), freezing, stepping
    finally:
        attached.detach()


def plain_step(base: Stored, layers: str, rows: Sequence[TrainingRow], *, kind: str = "lora") -> Step:
    attached = put_on(base, KINDS[kind](layers))
    try:
        return take_step(attached, Collator(PAD), [rows[:4]], PLAIN)
    finally:
        attached.detach()


def same_bits(one: Step, other: Step) -> bool:
    return one.loss == other.loss and all(
        torch.equal(value, other.gradients[name]) for name, value in one.gradients.items()
    )


@pytest.fixture(params=ARCHITECTURES)
def base(request: pytest.FixtureRequest, prover: Prover) -> Stored:
    return prover.bases.get(request.param)


@pytest.fixture
def rows(prover: Prover) -> list[TrainingRow]:
    return prover.rows[True]


def test_states_are_computed_once(base: Stored, rows: list[TrainingRow], tmp_path: Path) -> None:
    first, computed, ran = frozen_step(base, "last:2", rows, tmp_path)
    assert (computed, ran) == ({0, 1}, {2, 3})
    again, computed, ran = frozen_step(base, "last:2", rows, tmp_path)
    assert (computed, ran) == (set(), {2, 3})
    assert same_bits(first, again)
    assert faults(first, plain_step(base, "last:2", rows)) == []


def test_rows_that_come_later_are_all_that_is_computed(base: Stored, rows: list[TrainingRow], tmp_path: Path) -> None:
    frozen_step(base, "last:2", rows[:6], tmp_path)
    own = {tuple(row.ids) for row in rows} - {tuple(row.ids) for row in rows[:6]}
    assert own
    with layers_called(base.model) as called:
        step, _, _ = frozen_step(base, "last:2", rows, tmp_path)
    assert 0 in called
    assert faults(step, plain_step(base, "last:2", rows)) == []


@pytest.mark.parametrize("kind", ["lora", "mlp-block-parallel", "dora"])
def test_an_adapter_with_a_higher_cut_goes_on_from_the_lower_one(
    base: Stored, rows: list[TrainingRow], tmp_path: Path, kind: str
) -> None:
    frozen_step(base, "last:2", rows, tmp_path, kind=kind)
    step, computed, ran = frozen_step(base, "last:1", rows, tmp_path, kind=kind)
    assert (computed, ran) == ({2}, {3})
    assert faults(step, plain_step(base, "last:1", rows, kind=kind)) == []


def test_another_kind_with_the_same_cut_uses_the_same_states(
    base: Stored, rows: list[TrainingRow], tmp_path: Path
) -> None:
    frozen_step(base, "last:2", rows, tmp_path)
    step, computed, _ = frozen_step(base, "last:2", rows, tmp_path, kind="mlp-both-sequential")
    assert computed == set()
    assert faults(step, plain_step(base, "last:2", rows, kind="mlp-both-sequential")) == []


def damage(folder: Path) -> None:
    """Flip a bit in the middle of each file of rows, and cut the end off."""
    for path in folder.glob("*.rows"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content[: -len(content) // 5])


def test_damaged_states_are_computed_again(base: Stored, rows: list[TrainingRow], tmp_path: Path) -> None:
    first, _, _ = frozen_step(base, "last:2", rows, tmp_path)
    damage(tmp_path)
    again, computed, _ = frozen_step(base, "last:2", rows, tmp_path)
    assert computed == {0, 1}
    assert faults(again, plain_step(base, "last:2", rows)) == []
    assert faults(again, first) == []
    _, computed, _ = frozen_step(base, "last:2", rows, tmp_path)
    assert computed == set()


def test_damage_below_a_higher_cut(base: Stored, rows: list[TrainingRow], tmp_path: Path) -> None:
    frozen_step(base, "last:2", rows, tmp_path)
    damage(tmp_path)
    step, computed, _ = frozen_step(base, "last:1", rows, tmp_path)
    assert 2 in computed
    assert faults(step, plain_step(base, "last:1", rows)) == []


def test_every_cut_from_every_lower_one(base: Stored, rows: list[TrainingRow], tmp_path: Path) -> None:
    """All chains of cuts lead to the same states."""
    wanted = [row.ids for row in rows]
    chains = [(3,), (1, 3), (2, 3), (1, 2, 3)]
    found = []
    for chain in chains:
        store = StateStore(tmp_path / "-".join(map(str, chain)), max_bytes=1 << 30)
        freezer = Freezer(base.model, store, weights_sha256=base.sha256, dtype=torch.float32)
        found.append([freezer.freeze(wanted, cut) for cut in chain][-1].states(wanted, 0))
    assert found[0].abs().max() > 0.1
    for states in found[1:]:
        torch.testing.assert_close(states, found[0], rtol=1e-5, atol=1e-5)


def test_models_of_equal_weights_keep_their_states_apart(
    prover: Prover, rows: list[TrainingRow], tmp_path: Path
) -> None:
    """Llama and Mistral with the same weights differ in the window only."""
    llama, mistral = prover.bases.get("llama"), prover.bases.get("mistral")
    assert llama.sha256 == mistral.sha256
    frozen_step(llama, "last:2", rows, tmp_path)
    step, computed, _ = frozen_step(mistral, "last:2", rows, tmp_path)
    assert computed == {0, 1}
    assert faults(step, plain_step(mistral, "last:2", rows)) == []


def test_states_of_an_untouched_lower_part_do_not_depend_on_the_adapter_above(
    base: Stored, rows: list[TrainingRow], tmp_path: Path
) -> None:
    """States are taken with the adapter on the model; without it they are the same to the bit."""
    wanted = [row.ids for row in rows]
    found = []
    for name in ("bare", "adapted"):
        attached = put_on(base, LoraSpec(r=4, layers="last:2")) if name == "adapted" else None
        store = StateStore(tmp_path / name, max_bytes=1 << 30)
        freezer = Freezer(base.model, store, weights_sha256=base.sha256, dtype=torch.float32)
        found.append(freezer.freeze(wanted, LAYERS - 2).states(wanted, 0))
        if attached is not None:
            attached.detach()
    assert torch.equal(*found)


def test_a_batch_may_share_less_or_more_than_all_rows_do(base: Stored, rows: list[TrainingRow], tmp_path: Path) -> None:
    store = StateStore(tmp_path, max_bytes=1 << 30)
    freezer = Freezer(base.model, store, weights_sha256=base.sha256, dtype=torch.float32)
    frozen = freezer.freeze([row.ids for row in rows], 2)
    attached = put_on(base, LoraSpec(r=4, layers="last:2"))
    twice = [rows[0], rows[0]]  # share their whole prompt
    for batch, share in ((twice, True), (twice, False), (rows[:1], True), (rows[3:8], False), (rows[3:8], True)):
        fast = take_step(attached, PackedCollator(share_prefix=share, frozen=frozen), [batch], WAY)
        assert faults(fast, take_step(attached, Collator(PAD), [batch], PLAIN)) == []
    attached.detach()
