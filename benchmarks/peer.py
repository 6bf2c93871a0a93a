"""The texts that peers work on, and running one of their scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import PEERS, PEERS_PYTHON, REPOSITORY, Measured, run_process


def write_texts(folder: Path, overrides: Sequence[str], *, cache: Path) -> dict[str, Any]:
    """Write the texts of a configuration's tasks into ``folder``; returns what ``data.py`` tells about them."""
    command = [sys.executable, REPOSITORY / "benchmarks" / "data.py", folder, *overrides]
    run_process(command, folder, environment={"ADAPTER_EXP_CACHE": str(cache)})
    facts: dict[str, Any] = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return facts


def run_peer(
    script: str, folder: Path, *options: str | Path, model: str, python: Path = PEERS_PYTHON
) -> tuple[Measured, dict[str, Any]]:
    """Run ``peers/SCRIPT.py`` in a process of its own.

    Returns:
        ``wall_s`` and ``peak_rss_bytes`` of the process, with the numbers among its result; and the whole result.

    Raises:
        SystemExit: when the peers' environment is missing, or the script fails.
    """
    if not python.is_file():
        sys.exit(f"{python} is missing; `make bench-peers` makes the peers' environment")
    result = folder / "result.json"
    command = [python, PEERS / f"{script}.py", "--model", model, "--result", result, *options]
    measured = run_process(command, folder)
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    numbers = {key: float(value) for key, value in found.items() if isinstance(value, int | float)}
    return {**measured, **numbers}, found
