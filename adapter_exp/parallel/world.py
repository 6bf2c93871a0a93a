"""What the processes of a run tell each other: numbers, objects, gradients, and how they ended."""

from __future__ import annotations

import contextlib
import gc
import json
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from adapter_exp.errors import Cancelled, UserError
from adapter_exp.parallel.place import Place

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# Processes wait for each other while one evaluates or saves. A process that dies is noticed at once, since its
# connections close; the limit is for one that hangs.
PATIENCE = timedelta(days=1)
# The first process to fail waits for the others to close what they have open: launchers kill the rest when one exits.
ENDING_S = 30.0
_CAUSE = "cause"


class PeerFailed(RuntimeError):
    """Another process of this run failed, so this one cannot go on."""


class World:
    """The processes of a run; one alone makes no connection, and every method is then trivial.

    All processes must call the same methods in the same order.

    Args:
        place: of this process.
        store: a key-value store that all processes reach; None for one alone.
    """

    def __init__(self, place: Place, store: Any = None) -> None:
        self.rank = place.rank
        self.size = place.size
        self._store = store

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each of ``values`` summed over all processes, the same bits in each; whole numbers are exact to 2^53."""
        if self.size == 1:
            return list(values)
        import torch

        numbers = torch.tensor(values, dtype=torch.float64)  # on the CPU: no device has to wait for it
        torch.distributed.all_reduce(numbers)
        summed: list[float] = numbers.tolist()
        return summed

    def meet(self) -> None:
        """Wait until all processes are here."""
        self.sum(0)

    def gather(self, value: T) -> list[T]:
        """Every process's ``value``, by rank."""
        if self.size == 1:
            return [value]
        import torch

        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, value)
        return found

    def from_first(self, make: Callable[[], T]) -> T:
        """What ``make`` returns in the first process, which alone calls it."""
        if self.size == 1:
            return make()
        import torch

        values: list[Any] = [make() if self.first else None]
        torch.distributed.broadcast_object_list(values, src=0)
        found: T = values[0]
        return found

    def shared(self, items: Sequence[T]) -> Sequence[T]:
        """The share of ``items`` that falls to this process: every ``size``-th."""
        return items[self.rank :: self.size]

    def joined(self, share: Sequence[T]) -> list[T]:
        """The processes' shares, each as long as ``shared`` made it, back in the order of all items."""
        shares = self.gather(list(share))
        longest = max(map(len, shares))
        return [part[i] for i in range(longest) for part in shares if i < len(part)]

    def sum_tensors(self, tensors: Sequence[torch.Tensor]) -> None:
        """Sum each of ``tensors`` over all processes, in place, in one message."""
        self._reduce(tensors, lambda torch, flat: torch.distributed.all_reduce(flat))

    def copy_from_first(self, tensors: Sequence[torch.Tensor]) -> None:
        """Overwrite ``tensors`` by those of the first process, in one message."""
        self._reduce(tensors, lambda torch, flat: torch.distributed.broadcast(flat, src=0))

    def _reduce(self, tensors: Sequence[torch.Tensor], send: Callable[[Any, torch.Tensor], object]) -> None:
        if self.size == 1 or not tensors:
            return
        import torch

        with torch.no_grad():
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            if flat.is_cuda:
                self.meet()  # a failed process is noticed here; waiting for it on the device could not be ended
            send(torch, flat)
            for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    @contextmanager
    def heeding(self) -> Iterator[None]:
        """Raise what ended another process, as its own error, where this one only sees that it is gone.

        Raises:
            UserError, Cancelled: if that ended the other process.
            PeerFailed: if anything else did.
        """
        try:
            yield
        except PeerFailed:
            raise
        except (RuntimeError, Cancelled) as error:  # gloo and NCCL have no error type of their own
            patience_s = 2.0 if isinstance(error, RuntimeError) else 0.0
            cause = self._cause(patience_s) if self.size > 1 else None
            if cause is not None:
                raise cause from error
            if self.size > 1 and "peer" in str(error):
                raise PeerFailed("another process of this run died without a word") from error
            raise

    def _cause(self, patience_s: float) -> BaseException | None:
        """The error that ended the first of the other processes to fail; None if none said so in time."""
        until = time.monotonic() + patience_s
        while True:
            try:
                told = self._store.get(_CAUSE) if self._store.check([_CAUSE]) else None
            except RuntimeError:  # the process that kept the store is gone
                return None
            if told is not None:
                return _read(told)
            if time.monotonic() >= until:
                return None
            time.sleep(0.05)

    def tell_end(self, error: BaseException) -> None:
        """Tell the others why this process ends, unless one ended before, and wait until they have ended too."""
        import torch

        if threading.current_thread() is threading.main_thread():
            # A launcher ends the others when it sees one exit; this one is about to, with the right code.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        mine = f"ended {self.rank}"
        with contextlib.suppress(RuntimeError):
            self._store.compare_set(_CAUSE, "", _written(error, self.rank))
            self._store.set(mine, "")
        with contextlib.suppress(RuntimeError):
            torch.distributed.destroy_process_group()
            gc.collect()  # closes the connections that the others wait on
        with contextlib.suppress(RuntimeError):
            self._store.wait([f"ended {rank}" for rank in range(self.size)], timedelta(seconds=ENDING_S))


ALONE = World(Place())
"""One process, as most runs have it."""

_current = ALONE


def current_world() -> World:
    """The processes that this one is connected with, see ``together``."""
    return _current


@contextmanager
def together(place: Place) -> Iterator[World]:
    """Connect with the other processes for the block; all of them leave it together, also when one fails.

    Raises:
        UserError: if there are more processes on this machine than GPUs.
    """
    global _current
    if place.size == 1:
        yield ALONE
        return
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, rank, size = next(iter(rendezvous("env://")))
    # Objects and counts go over the CPU, tensors of a GPU from GPU to GPU.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    group = PrefixStore("group", store)
    distributed.init_process_group(backend, store=group, rank=rank, world_size=size, timeout=PATIENCE)
    world = World(place, PrefixStore("run", store))
    _current = world
    try:
        _take_device(place)
        with world.heeding():
            try:
                yield world
            except SystemExit as end:
                if end.code:
                    raise
            world.meet()
    except BaseException as error:
        world.tell_end((isinstance(error, SystemExit) and error.__cause__) or error)
        raise
    finally:
        _current = ALONE
    distributed.destroy_process_group()


def _take_device(place: Place) -> None:
    """Let ``cuda`` mean this process's GPU."""
    import torch

    if not torch.cuda.is_available():
        return
    found = torch.cuda.device_count()
    if place.local_rank >= found:
        raise UserError(
            f"LOCAL_RANK: {place.local_rank} has no GPU, this machine has {found}; start at most {found} processes on "
            "it, or hide the GPUs (CUDA_VISIBLE_DEVICES='') and use device=cpu."
        )
    torch.cuda.set_device(place.local_rank)


def _written(error: BaseException, rank: int) -> str:
    text = {
        "rank": rank,
        "kind": "user" if isinstance(error, UserError) else "stop" if isinstance(error, KeyboardInterrupt) else "fault",
        "lines": list(error.faults) if isinstance(error, UserError) else [f"{type(error).__name__}: {error}"],
        "traceback": "".join(traceback.format_exception(error)),
    }
    return json.dumps(text)


def _read(told: bytes) -> BaseException:
    end = json.loads(told)
    if end["kind"] == "user":
        return UserError(*end["lines"])
    if end["kind"] == "stop":
        return Cancelled(f"process {end['rank']} was asked to stop")
    error = PeerFailed(f"process {end['rank']}: {end['lines'][0]}")
    error.add_note(end["traceback"])
    return error
