"""What the benchmarks of sweeps share: commands in processes of their own, and the numbers that runs must agree on."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent


def start(arguments: Sequence[str], work_dir: Path, cache_dir: Path) -> subprocess.Popen[bytes]:
    """Begin ``python -m adapter_exp.run`` in ``work_dir``, as a process group of its own that writes to run.log."""
    work_dir.mkdir(parents=True, exist_ok=True)
    search = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    with (work_dir / "run.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "adapter_exp.run", *arguments],
            cwd=work_dir,
            env={**os.environ, "PYTHONPATH": search, "ADAPTER_EXP_CACHE": str(cache_dir)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def run(arguments: Sequence[str], work_dir: Path, cache_dir: Path) -> None:
    """Run ``python -m adapter_exp.run`` to its end.

    Raises:
        SystemExit: with the end of what it wrote, when it fails.
    """
    code = start(arguments, work_dir, cache_dir).wait()
    if code:
        sys.exit(f"{' '.join(arguments)} ended with {code}:\n{(work_dir / 'run.log').read_text()[-2000:]}")


def jobs_of(sweep_dir: Path) -> list[Path]:
    """The numbered run folders of a sweep, in order."""
    return sorted((path for path in sweep_dir.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def numbers(run_dir: Path) -> dict[str, Any]:
    """Losses, scores, answers and adapter of a run: what must not depend on how it was run."""
    record = json.loads((run_dir / "record.json").read_text(encoding="utf-8"))
    assert record["status"] == "ok", f"{run_dir} is {record['status']}"
    labels = ("base", "adapted", "change", "baseline")
    return {
        "losses": [record["training"]["loss"], record["training"]["validation_loss"]],
        "evaluation": {label: record["evaluation"][label] for label in labels},
        "validation": record["validation"],
        "predictions": {file.name: list(_answers(file)) for file in sorted((run_dir / "predictions").glob("*.jsonl"))},
        "adapter": hashlib.sha256((run_dir / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest(),
    }


def _answers(file: Path) -> Iterator[list[Any]]:
    """The rows of a file of predictions without the time that each took."""
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        row.pop("milliseconds")
        yield sorted(row.items())


def differences(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Names of what two runs do not agree on."""
    return [name for name in first if first[name] != second[name]]
