"""A sweep's folder made through the public API, as a real sweep makes it, without training anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from record_samples import finished_record, interval

from adapter_exp.files import write_json_atomic
from adapter_exp.sweep.ledger import Ledger
from adapter_exp.tracking.record import RunRecord

NAME = "20261121-101500-ab12"


def finished_job(sweep_dir: Path, number: int, *, r: int, seed: int, f1: float) -> RunRecord:
    """A finished run in the sweep's folder ``number``: LoRA of rank ``r``, with ``f1`` on validation and on test."""
    record = finished_record(sweep_dir / str(number), run_id=f"{sweep_dir.name}-{number}", steps=5)
    config = record.data["config"]
    changed = {**config, "adapter": {**config["adapter"], "r": r}, "seed": seed, "task": {"name": "nerus"}}
    record = RunRecord(record.run_dir, {**record.data, "config": changed, "config_hash": f"hash-{number}"})
    record.update("validation", {"adapted": {"nerus": {"f1": interval(f1 + 0.01, 0.05)}}})
    adapted = {**record.data["evaluation"]["adapted"], "nerus": {"f1": interval(f1, 0.05)}}
    change = {**record.data["evaluation"]["change"], "nerus": {"f1": interval(f1 - 0.02, 0.05)}}
    record.update("evaluation", {"adapted": adapted, "change": change})
    return record


def sweep_folder(root: Path, *, ranks: Sequence[int] = (4, 16), seeds: Sequence[int] = (0, 1)) -> Path:
    """A finished sweep of LoRA ranks and seeds, one job of it failed before it began a record."""
    folder = root / "multirun" / NAME
    folder.mkdir(parents=True)
    overrides = ["adapter=lora", f"adapter.r={','.join(map(str, ranks))}", f"seed={','.join(map(str, seeds))}"]
    values = {"name": NAME, "created_at": "2026-11-21T10:15:00+00:00", "arguments": overrides, "overrides": overrides}
    write_json_atomic(folder / "sweep.json", {**values, "mlflow": {"parent_run_id": None, "reason": "not opened"}})
    ledger = Ledger(folder)
    jobs = [(r, seed) for r in ranks for seed in seeds]
    for number, (r, seed) in enumerate(jobs):
        ledger.append(f"hash-{number}", number, "queued", overrides=["adapter=lora", f"adapter.r={r}", f"seed={seed}"])
    for number, (r, seed) in enumerate(jobs):
        ledger.append(f"hash-{number}", number, "running")
        if number == len(jobs) - 1:
            (folder / str(number)).mkdir()
            (folder / str(number) / "error.txt").write_text("Traceback\nRuntimeError: labels are all masked\n")
            ledger.append(f"hash-{number}", number, "failed", error="RuntimeError: labels are all masked")
        else:
            f1 = 0.1 + 0.01 * r + 0.003 * seed
            finished_job(folder, number, r=r, seed=seed, f1=f1)
            ledger.append(f"hash-{number}", number, "ok", objective=f1 + 0.01)
    plots = folder / "comparison" / "plots"
    plots.mkdir(parents=True)
    (plots / "change.png").write_bytes(b"\x89PNG")
    (folder / "comparison" / "report.md").write_text("# Comparison\n", encoding="utf-8")
    return folder
