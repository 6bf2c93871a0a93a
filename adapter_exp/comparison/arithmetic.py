"""Gates on figures alone: what no set of predictions can give, and what only an odd one gives."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

from adapter_exp.evaluation.gates import Gate
from adapter_exp.tracking.record import RecordData

HALF_DIGIT = 0.5e-4
"""Published figures are rounded, to four digits as a rule."""

Figures = Mapping[str, float]


def arithmetic_gates(record: RecordData) -> list[dict[str, Any]]:
    """The gates of an imported record, as its ``gates`` would hold them.

    - ``impossible_f1``: an averaged F1 above the harmonic mean of averaged precision and recall.
    - ``fits_one_label``: the figures are those of a set with one true label.
    - ``equals_base``: every figure of the adapter equals the base's.
    """
    gates: list[Gate] = []
    for task, models in _figures(record).items():
        gates.append(_impossible_f1(task, models))
        gates.append(_fits_one_label(task, models))
    equal = _equals_base(record)
    return [dataclasses.asdict(gate) for gate in (*gates, *equal)]


def _figures(record: RecordData) -> dict[str, dict[str, Figures]]:
    """task -> model -> metric -> value."""
    found: dict[str, dict[str, Figures]] = {}
    for model in ("base", "adapted"):
        for task, metrics in record["evaluation"].get(model, {}).items():
            values = {name: entry["value"] for name, entry in metrics.items() if entry["value"] is not None}
            found.setdefault(task, {})[model] = values
    return found


def _averages(figures: Figures) -> Iterator[tuple[str, float, float, float]]:
    """``(name of F1, precision, recall, F1)`` of each averaged triple: ``macro_f1``, ``macro_f1_generated``, ..."""
    for name, f1 in figures.items():
        if (match := re.fullmatch(r"(\w*?)f1(_\w+)?", name)) is None:
            continue
        prefix, suffix = match[1], match[2] or ""
        precision, recall = (figures.get(f"{prefix}{part}{suffix}") for part in ("precision", "recall"))
        if precision is not None and recall is not None:
            yield name, precision, recall, f1


def _impossible_f1(task: str, models: Mapping[str, Figures]) -> Gate:
    """Fail when an averaged F1 is above the harmonic mean of the averaged precision and recall.

    The harmonic mean is concave, so the mean of F1 over sentences (or labels) is at most the harmonic mean of the mean
    precision and recall, and a pooled F1 equals it (Jensen 1906). Rounding of the figures is allowed for.
    """
    for model, figures in models.items():
        for name, precision, recall, f1 in _averages(figures):
            limit = _harmonic(precision, recall)
            if f1 - HALF_DIGIT > _harmonic(precision + HALF_DIGIT, recall + HALF_DIGIT):
                reason = (
                    f"{name} of the {model} model is {f1:.4f}, but precision {precision:.4f} and recall {recall:.4f} "
                    f"allow at most {limit:.4f}: some of these figures are not of one evaluation"
                )
                values = {
                    "metric": name, "of": model, "f1": f1, "precision": precision, "recall": recall, "limit": limit,
                }  # fmt: skip
                return Gate("impossible_f1", False, reason, task, None, values)
    return Gate("impossible_f1", True, "no averaged F1 is above what precision and recall allow", task)


def _fits_one_label(task: str, models: Mapping[str, Figures]) -> Gate:
    """Fail when every model's macro scores are what a set with one true label of two gives.

    With accuracy a on such a set, the true label has precision 1 and recall a, the other has 0 and 0: macro precision
    is 1/2, macro recall a/2, macro F1 a / (1 + a).
    """
    fits = []
    for model, figures in models.items():
        for name, precision, recall, f1 in _averages(figures):
            suffix = name.partition("f1")[2]
            accuracy = figures.get(f"accuracy{suffix}")
            if not name.startswith("macro_f1") or accuracy is None or accuracy == 0:
                continue
            wanted = (0.5, accuracy / 2, accuracy / (1 + accuracy))
            # a itself is rounded too, and moves the others by at most as much
            near = all(abs(a - b) <= 2 * HALF_DIGIT for a, b in zip((precision, recall, f1), wanted, strict=True))
            fits.append((model, accuracy, near))
    if not fits or not all(near for _, _, near in fits):
        return Gate("fits_one_label", True, "the figures do not look like those of one label", task)
    accuracies = {model: accuracy for model, accuracy, _ in fits}
    told = ", ".join(f"{model} {value:.4f}" for model, value in accuracies.items())
    reason = (
        "macro precision 0.5, recall half the accuracy and F1 accuracy / (1 + accuracy) fit an evaluation set with "
        f"one true label (accuracy {told}): any constant answer is then all right or all wrong"
    )
    return Gate("fits_one_label", False, reason, task, None, {"accuracy": accuracies})


def _equals_base(record: RecordData) -> list[Gate]:
    """Fail when the adapter has figures on some task and all of them, on all tasks, equal the base's."""
    pairs = [
        (models["base"][name], value)
        for models in _figures(record).values()
        if models.keys() >= {"base", "adapted"}
        for name, value in models["adapted"].items()
        if name in models["base"]
    ]
    if not pairs:
        return []
    changed = sum(base != adapted for base, adapted in pairs)
    reason = f"{len(pairs) - changed} of {len(pairs)} figures equal the base's"
    values = {"figures": len(pairs), "equal": len(pairs) - changed}
    return [Gate("equals_base", changed > 0, reason, None, "adapted", values)]


def _harmonic(precision: float, recall: float) -> float:
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0
