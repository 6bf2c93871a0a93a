"""The exact savings of one run: which apply, and the states of its frozen layers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_exp.adapters import Attached
from adapter_exp.config import Config
from adapter_exp.models.base import Base
from adapter_exp.preparation import Prepared
from adapter_exp.session import Session
from adapter_exp.tracking.resources import processor_kind

if TYPE_CHECKING:
    from adapter_exp.data.rendering import TrainingRow
    from adapter_exp.engine.frozen import Freezer, FrozenLayers, FrozenStates
    from adapter_exp.engine.store import StateStore
    from adapter_exp.training.batches import Collate

STATES_FOLDER = "frozen_states"


def collation(session: Session, config: Config, base: Base, attached: Attached, prepared: Prepared) -> Collate:
    """How rows of the trained task become batches, with every saving that is switched on and exact here."""
    from adapter_exp.engine.packed import PackedCollator
    from adapter_exp.engine.plan import plan_savings
    from adapter_exp.training.batches import Collator

    savings = plan_savings(config.speed, attached)
    session.note(*savings.notes)
    if not savings.packed:
        return Collator(int(base.tokenizer.pad_token_id))
    frozen = None
    if savings.cut:
        rows = [*prepared.rows["train"], *prepared.rows["validation"]]
        frozen = _freeze(session, config, base, rows, savings.cut)
    return PackedCollator(share_prefix=savings.shared_prefix, frozen=frozen)


def _freeze(session: Session, config: Config, base: Base, rows: Sequence[TrainingRow], cut: int) -> FrozenStates | None:
    freezer = training_freezer(session, config, base)
    if not freezer.room_for([row.ids for row in rows]):
        session.note(
            f"speed.frozen_cache: not used, the states of {len(rows)} rows do not fit within speed.cache_gb="
            f"{config.speed.cache_gb} and the free space of the disk."
        )
        return None
    with session.phase("freeze layers", unit="rows") as shown:
        return freezer.freeze([row.ids for row in rows], cut, on_progress=shown)


def scoring_states(session: Session, config: Config, base: Base, attached: Attached) -> FrozenLayers | None:
    """Keeps what the layers below the adapter make of prompts and labels; None where that is off or nothing."""
    from adapter_exp.engine.frozen import Freezer, FrozenLayers
    from adapter_exp.evaluation.batching import packs

    cut = attached.lowest_layer() or 0
    if not (cut and config.speed.frozen_cache and packs(base.model, config.speed)):
        return None
    world = session.world  # processes score other rows each, so none should wait for what another one computes
    freezer = Freezer(
        base.model,
        state_store(session, config),
        weights_sha256=base.weights_sha256,
        dtype=base.compute_dtype,
        place=f"{processor_kind(base.device)}, {world.rank} of {world.size}",
    )
    return FrozenLayers(freezer, cut, on_unkept=session.note)


def training_freezer(session: Session, config: Config, base: Base) -> Freezer:
    """Computes and keeps frozen states in the precision that training runs in."""
    import torch

    from adapter_exp.engine.frozen import Freezer
    from adapter_exp.training.train import autocast_dtype

    dtype = autocast_dtype(config.trainer, base.compute_dtype)
    mixed = dtype != torch.float32
    return Freezer(
        base.model,
        state_store(session, config),
        weights_sha256=base.weights_sha256,
        dtype=dtype,
        place=processor_kind(base.device),
        autocast=(lambda: torch.autocast(base.device.type, dtype)) if mixed else nullcontext,
    )


def state_store(session: Session, config: Config) -> StateStore:
    """The store of frozen states that all runs with this cache folder share."""
    from adapter_exp.engine.store import StateStore

    folder = Path(config.cache_dir).expanduser() / STATES_FOLDER
    return StateStore(folder, max_bytes=round(config.speed.cache_gb * 1e9), on_unkept=session.note)
