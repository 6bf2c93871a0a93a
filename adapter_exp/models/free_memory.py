"""How many bytes a process may still take: of main memory within its container, or of a CUDA device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

CGROUP = Path("/sys/fs/cgroup")


def free_bytes(device: torch.device) -> int:
    """Bytes that can be had on ``device`` without pushing anything out.

    CPU: the system's available memory, or what the container's limit (cgroup v2) leaves where that is less.
    CUDA: the device's free memory and what torch keeps of it without using it.
    """
    if device.type == "cuda":
        import torch

        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    available = int(psutil.virtual_memory().available)
    limit = _container_bytes()
    return available if limit is None else min(available, limit)


def _container_bytes() -> int | None:
    """What the container's memory limit leaves; None without one. File pages that can be dropped count as free."""
    try:
        limit = (CGROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((CGROUP / "memory.current").read_text(encoding="ascii"))
        statistics = dict(line.split() for line in (CGROUP / "memory.stat").read_text(encoding="ascii").splitlines())
        return None if limit == "max" else max(0, int(limit) - used + int(statistics["inactive_file"]))
    except (OSError, ValueError, KeyError):  # no cgroup v2 here: the system's own figure has to do
        return None
