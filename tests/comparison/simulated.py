"""Runs with simulated answers, written as real ones are: the real tasks judge them, the real record holds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import experiment_samples
import numpy as np
from task_samples import ALL, task_config

from adapter_exp.data.fingerprint import item_hash
from adapter_exp.evaluation.evaluate import summarise
from adapter_exp.evaluation.predictions import Prediction, write_predictions
from adapter_exp.evaluation.run_gates import TaskEvidence, run_gates
from adapter_exp.evaluation.statistics import paired_change
from adapter_exp.tasks.protocol import Answer, Example, Task
from adapter_exp.tasks.registry import build_task
from adapter_exp.tracking.record import RunRecord

ROLES = {"nerus": "special", "terra": "general"}
BASE_SKILL = {"nerus": 0.2, "terra": 0.7}
LORA = {"kind": "lora", "r": 8, "alpha": 16.0, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"], "layers": "all"}
MLP = {"kind": "mlp", "hidden_dim": 16, "layers": "all"}


@lru_cache
def task(name: str) -> Task:
    return build_task(task_config(name, **ALL))


@lru_cache
def items(name: str, count: int) -> tuple[Example, ...]:
    every = [example for split in ("test", "validation", "train") for example in task(name).load(split)]
    return tuple(every[:count])


@lru_cache
def config(kind: str) -> dict[str, Any]:
    made: dict[str, Any] = experiment_samples.config(Path("unused"), f"adapter={kind}").model_dump(mode="json")
    return made


def answer_rows(name: str, *, skill: float, seed: Any, count: int = 120) -> list[Prediction]:
    """Answers of a model that gets each part of an answer right with a probability of ``skill``, more on easy items."""
    generator = np.random.default_rng(int(hashlib.sha256(repr((name, seed)).encode()).hexdigest()[:12], 16))
    rows = []
    for example in items(name, count):
        digest = hashlib.sha256(example.id.encode()).digest()[0] / 255
        ability = min(0.98, max(0.02, skill + 0.4 * (digest - 0.5)))  # the same item is hard for every model
        answers = _nerus(example, ability, generator) if name == "nerus" else _terra(example, ability, generator)
        outcome = task(name).score(example, answers)
        text = task(name).prompt(example)
        rows.append(
            Prediction(
                id=example.id,
                item_hash=item_hash(name, task(name).content(example)),
                group=example.group,
                prompt_hash=hashlib.sha256(text.encode()).hexdigest()[:16],
                input=text,
                target=task(name).target(example),
                response=answers[0].texts[0],
                prediction=outcome.prediction,
                parsed=outcome.parsed,
                statistics=dict(outcome.statistics),
                logprobs=[list(answer.logprobs) for answer in answers if answer.logprobs],
                new_tokens=5,
                milliseconds=1.0,
            )
        )
    return rows


def _nerus(example: Any, ability: float, generator: np.random.Generator) -> list[Answer]:
    marks = []
    for kind, text in example.marks:
        if generator.random() < ability:
            marks.append(f"[{text}]({kind})")
        elif generator.random() < 0.5:
            marks.append(f"[{text}]({'LOC' if kind != 'LOC' else 'ORG'})")
    if generator.random() < 0.2 * (1 - ability):
        marks.append("[что-то](ORG)")
    return [Answer(texts=(" ".join(marks) or task("nerus").config.empty_answer,))]


def _terra(example: Any, ability: float, generator: np.random.Generator) -> list[Answer]:
    words = task("terra").config.labels.model_dump()
    right, wrong = words[example.label], next(word for label, word in words.items() if label != example.label)
    generated = right if generator.random() < ability else wrong
    likelier = right if generator.random() < ability else wrong
    return [
        Answer(texts=(generated,)),
        Answer(logprobs=tuple(-1.0 if word == likelier else -2.0 for word in words.values())),
    ]


def write_run(
    folder: Path,
    *,
    adapter: Mapping[str, Any] = LORA,
    seed: int = 0,
    skill: Mapping[str, float] | None = None,
    tasks: Sequence[str] = ("nerus", "terra"),
    count: int = 120,
    quantization: str = "nf4",
    checkpoint: str = "9" * 64,
    changes: Mapping[str, Any] | None = None,
    parameters: int = 10_000,
    answers: Any = None,
) -> Path:
    """A finished run. Models of equal skill still answer differently by seed and adapter.

    Args:
        skill: of the adapted model, by task; the base's where it is not given.
        changes: sections of the configuration to update.
        answers: decides the random answers; None takes adapter and seed.
    """
    kind = adapter["kind"]
    values = config(kind)
    values = values | {
        "adapter": {**values["adapter"], **adapter},
        "seed": seed,
        "quantization": {**values["quantization"], "kind": quantization},
    }
    for section, update in (changes or {}).items():
        values[section] = {**values[section], **update} if isinstance(update, Mapping) else update
    digest = hashlib.sha256(repr(sorted(map(str, values.items()))).encode()).hexdigest()
    record = RunRecord.create(folder, run_id=folder.name, config=values, config_hash=digest, seed=seed)
    record.update("tasks", {name: {"primary": task(name).primary, "role": ROLES[name]} for name in tasks})
    record.update(
        "model",
        {
            "name": "tiny",
            "checkpoint_sha256": checkpoint,
            "quantization": quantization,
            "total_parameters": 1_000_000,
            "trainable_parameters": parameters,
            "adapter_bytes": 4 * parameters,
            "compute_dtype": "float32",
        },
    )
    record.update("host", {"device": "cpu"})
    record.update(
        "data",
        {
            "nerus": {
                "train": {"fingerprint": "a" * 64, "items": 64, "groups": 9},
                "test": {"fingerprint": "b" * 64, "items": count},
            }
        },
    )
    steps = range(1, 21)
    record.update(
        "training",
        {
            "steps": 20,
            "epochs": 2.0,
            "tokens": {"raw": 3000, "template": 4000, "padded": 4100},
            "tokens_per_s": 400.0 + seed,
            "loss": [{"step": s, "loss": 2.5 / s**0.5 + 0.05 * seed} for s in steps],
            "validation_loss": [{"step": 20, "loss": 0.7}],
        },
    )
    (folder / "predictions").mkdir()
    evaluation: dict[str, dict[str, Any]] = {"base": {}, "adapted": {}, "change": {}, "baseline": {}}
    evidence = []
    for name in tasks:
        before = answer_rows(name, skill=BASE_SKILL[name], seed="base", count=count)
        after = answer_rows(
            name,
            skill=(skill or {}).get(name, BASE_SKILL[name]),
            seed=(sorted(map(str, adapter.items())), seed) if answers is None else answers,
            count=count,
        )
        results = {}
        for label, rows in (("base", before), ("adapted", after)):
            if kind == "none" and label == "adapted":
                continue
            write_predictions(folder / "predictions" / f"{name}.{label}.jsonl", rows)
            results[label] = summarise(task(name), rows, seconds=1.0, resamples=100)
            evaluation[label][name] = {metric: one.as_dict() for metric, one in results[label].metrics.items()}
        if kind != "none":
            hashes = [row.item_hash for row in before]
            change = paired_change(
                task(name).aggregate,
                [r.statistics for r in before],
                [r.statistics for r in after],
                base_hashes=hashes,
                adapted_hashes=hashes,
                groups=[r.group for r in before],
                resamples=100,
                seed=0,
            )
            evaluation["change"][name] = {metric: one.as_dict() for metric, one in change.items()}
        trivial = task(name).baselines(results["base"].outcomes)
        evaluation["baseline"][name] = {
            metric: {"value": value, "low": None, "high": None} for metric, value in trivial.items()
        }
        evidence.append(TaskEvidence(task(name), results["base"], results.get("adapted")))
    record.update("evaluation", evaluation)
    record.update("gates", run_gates(kind, evidence, None))
    record.update(
        "resources",
        {
            "peak_rss_bytes": 700_000_000 + parameters,
            "peak_device_bytes": None,
            "wall_s": 50.0 + seed,
            "phases_s": {"train": 30.0 + seed},
        },
    )
    record.finish("ok")
    return folder


def change_record(run: Path, change: Any) -> None:
    """Let ``change`` edit the record in place, as a hand or an older program might have."""
    file = run / "record.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    change(data)
    file.write_text(json.dumps(data), encoding="utf-8")
