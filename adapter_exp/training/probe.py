"""Measures what a batch takes in training, on a few of the layers that it will run through.

Measured and not derived, because much of it is in no formula: what attention kernels, quantised products and
activation checkpointing keep, and what the C library's heap loses between blocks (glibc 2.36 cannot use the place of a
freed tensor for an aligned one of the same size; SmolLM2's activations take 1.8 times their size there).
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adapter_exp.adapters import Attached
from adapter_exp.engine.decoder import without_layers
from adapter_exp.tracking.resources import give_back_free_memory

# Over steps the heap loses more, to batches of other shapes: measured 1.15 to 1.3 (SmolLM2, LoRA on all layers).
HEAP_DRIFT = 1.15
# Layers of a kind that are run. The first holds what all share (masks, positions); the mean of the others is one's own.
_LAYERS = 3
# With activation checkpointing a layer keeps little, and what a CPU's heap loses to its temporaries differs from layer
# to layer (20 +- 8 MB for 8 rows of SmolLM2): two of them as measure of the other 27 were up to 30 % off.
_LAYERS_CHECKPOINTED = 12


def held_bytes(device: torch.device) -> int:
    """Resident memory of the process, or what tensors take on a CUDA device."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(_process(os.getpid()).memory_info().rss)


@cache
def _process(pid: int) -> psutil.Process:
    return psutil.Process(pid)


def peak_growth(attached: Attached, device: torch.device, step: Callable[[], torch.Tensor]) -> int:
    """Bytes by which a forward and backward pass through all layers will grow what is held, at its peak.

    Of layers that keep alike (the same trained shapes and the same kind of attention) some are run, the others of
    their kind are added. No gradient is left behind.

    Args:
        step: makes the batch, runs it forward and returns the loss.
    """
    decoder = attached.model.get_decoder()
    lowest = attached.lowest_layer() or 0
    kinds = _kinds(attached, lowest, len(decoder.layers))
    uneven = device.type == "cpu" and attached.model.is_activation_checkpointing
    most = _LAYERS_CHECKPOINTED if uneven else _LAYERS
    run = sorted(number for members in kinds for number in members[:most])
    give_back_free_memory()
    start = held_bytes(device)
    skipped = [number for number in range(len(decoder.layers)) if number not in run]
    generators = [device] if device.type == "cuda" else []
    kept: dict[int, int] = {}
    parameters = list(attached.parameters().values())
    # A compiled layer that first ran under a dispatch mode would never be compiled.
    eager = torch.compiler.set_stance("force_eager")  # type: ignore[no-untyped-call]  # untyped in torch
    try:
        with torch.random.fork_rng(generators), without_layers(decoder, skipped), eager, _Peak(device) as peak:
            with _boundaries(decoder, run, device, kept):
                loss = step()
            loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
            del loss
    finally:
        for parameter in parameters:
            parameter.grad = None
    others = sum((len(members) - most) * _own(kept, members[1:most]) for members in kinds if members[most:])
    growth: int = max(0, peak.bytes - start) + others
    return growth if device.type == "cuda" else int(growth * HEAP_DRIFT)


def _kinds(attached: Attached, lowest: int, layers: int) -> list[list[int]]:
    """Layers from ``lowest`` up, those together that keep equal amounts.

    What enters the lowest one needs no gradient, so that one is apart.
    """
    shapes: dict[int, list[Any]] = defaultdict(list)
    for name, parameter in attached.parameters().items():
        place = re.search(r"\.layers\.(\d+)\.(.*)", name)
        if place:
            shapes[int(place[1])].append((place[2], tuple(parameter.shape)))
    types = getattr(attached.model.config, "layer_types", None) or [None] * layers
    kinds: dict[Any, list[int]] = defaultdict(list)
    for number in range(lowest, layers):
        kinds[number == lowest, types[number], tuple(sorted(shapes[number]))].append(number)
    return list(kinds.values())


def _own(kept: dict[int, int], members: Sequence[int]) -> int:
    return sum(kept[number] for number in members) // len(members)


class _Peak(TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Looks at what is held after every operation; ``bytes`` is the most."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # untyped in torch
        self.device = device
        self.bytes = held_bytes(device)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.bytes = max(self.bytes, held_bytes(self.device))
        return result


@contextmanager
def _boundaries(decoder: Any, numbers: Sequence[int], device: torch.device, kept: dict[int, int]) -> Iterator[None]:
    """Put into ``kept`` by how much each layer's forward pass lets grow what is held."""

    def enter(number: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            kept[number] = -held_bytes(device)

        return hook

    def leave(number: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            kept[number] += held_bytes(device)

        return hook

    handles = []
    for number in numbers:
        handles.append(decoder.layers[number].register_forward_pre_hook(enter(number)))
        handles.append(decoder.layers[number].register_forward_hook(leave(number)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
