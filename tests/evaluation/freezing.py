"""What keeps the states of the layers below an adapter that begins at layer 1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from adapter_exp.engine.frozen import Freezer, FrozenLayers
from adapter_exp.engine.store import StateStore

CUT = 1


def frozen(model: Any, folder: Path, max_bytes: int = 10**8, cut: int = CUT) -> FrozenLayers:
    store = StateStore(folder, max_bytes=max_bytes)
    return FrozenLayers(Freezer(model, store, weights_sha256="0" * 64, dtype=torch.float32), cut)


@contextmanager
def counted_tokens(model: Any, layer: int) -> Iterator[list[int]]:
    """How many tokens each pass takes through a layer."""
    tokens: list[int] = []
    handle = model.model.layers[layer].mlp.register_forward_hook(lambda module, args, out: tokens.append(out.shape[1]))
    try:
        yield tokens
    finally:
        handle.remove()
