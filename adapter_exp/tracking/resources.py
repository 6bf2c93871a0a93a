"""What a run costs: wall time by phase, peak memory of the process and of the device."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STATUS_FILE = Path("/proc/self/status")
CLEAR_FILE = Path("/proc/self/clear_refs")
CLEAR_PEAK = "5"  # proc(5): since Linux 4.0, resets the high-water mark of the resident memory


class Phases:
    """Wall time of named phases; a phase entered twice adds up."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the block under ``name``, also when it raises."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def measured(self) -> dict[str, Any]:
        """The record's ``resources`` section as of now."""
        return {
            "wall_s": time.perf_counter() - self._started,
            "phases_s": dict(self.seconds),
            "peak_rss_bytes": peak_rss_bytes(),
            "peak_device_bytes": peak_device_bytes(),
        }


def peak_rss_bytes() -> int:
    """Largest resident memory of this process since ``reset_peaks``, or since it began where that cannot be had."""
    if STATUS_FILE.is_file():
        # Not getrusage: its ru_maxrss starts from the parent's at fork and survives exec, so a run started by a large
        # process (a sweep, a test session) would report that one's memory.
        for line in STATUS_FILE.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def peak_device_bytes() -> int | None:
    """Largest memory that tensors took on the CUDA device since ``reset_peak_device``; None without a device in use."""
    torch = _torch_with_cuda()
    return None if torch is None else int(torch.cuda.max_memory_allocated()) or None


def reset_peaks() -> bool:
    """Start new peaks of process and device, so that runs of one process do not inherit each other's.

    Memory that nothing uses any more is given back first; a resident base stays, and counts.

    Returns:
        Whether the process's peak begins anew; only Linux can do that, and only where ``/proc`` may be written.
    """
    gc.collect()
    give_back_free_memory()
    reset_peak_device()
    try:
        CLEAR_FILE.write_text(CLEAR_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def reset_peak_device() -> None:
    """Start a new peak on the CUDA device; cached blocks that nothing uses go back to it."""
    torch = _torch_with_cuda()
    if torch is not None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def give_back_free_memory() -> None:
    """Hand what the C library keeps of freed memory to the kernel; otherwise the last run's heap is the next one's."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # C libraries other than glibc have no malloc_trim
            ctypes.CDLL(None).malloc_trim(0)


def device_name(device: Any) -> str:
    """Name of the GPU that ``device`` (a ``torch.device``) is, or ``cpu``."""
    torch = _torch_with_cuda()
    return "cpu" if torch is None or device.type == "cpu" else str(torch.cuda.get_device_name(device))


def processor_kind(device: Any) -> str:
    """What computes on ``device`` (a ``torch.device``): the GPU's name, or the CPU's instruction set."""
    import platform

    import torch

    if device.type != "cpu":
        return device_name(device)
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def processor_name(device: Any) -> str:
    """``processor_kind``, on a CPU with the threads, which decide how sums are split."""
    import torch

    kind = processor_kind(device)
    return f"{kind}, {torch.get_num_threads()} threads" if device.type == "cpu" else kind


def _torch_with_cuda() -> Any | None:
    """The torch module when it is loaded and sees a GPU; a process that never imported torch used no device."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() else None
