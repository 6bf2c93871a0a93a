"""Runs that differ in the seed only are one configuration, named by what varies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapter_exp.comparison.model import Configuration, Refused, Run, reason
from adapter_exp.comparison.scores import ADAPTED, BASE, quantization_of
from adapter_exp.config import parse_config
from adapter_exp.errors import UserError

KIND = "adapter.kind"
BATCH_SIZE = "trainer.batch_size"
DATA = "data"
"""Axis of the training items themselves, where no setting tells them apart."""

# These decide how a run was scored or shown, not what was trained; `seed` is what is averaged over.
_LEFT_OUT = ("seed", "resume", "resume_sweep", "isolate", "tracking", "cache_dir", "output_dir")
_LEFT_OUT_OF_EVAL = ("resamples", "validation", "objective", "special", "general", "batch_size")
_FIRST = ("r", "hidden_dim", "lora.r", "mlp.hidden_dim", "layers", "lora.layers", "mlp.layers")  # lead in names


def configurations(runs: Sequence[Run]) -> tuple[list[Configuration], tuple[str, ...], list[Refused]]:
    """Group the runs of one comparable group by configuration.

    Returns:
        configurations in the order of their first runs, without base models alone (``adapter=none``); the dotted keys
        that vary between them; and the second of two runs of one configuration and seed, refused as ``same_run``
        or, where it scored otherwise, ``same_run_other_scores`` (``folder`` of the first, ``seed``).
    """
    found: dict[str, list[Run]] = {}
    flat: dict[str, dict[str, Any]] = {}
    refused: list[Refused] = []
    for run in runs:
        values = _values(run)
        key = json.dumps(values, sort_keys=True)
        twin = next((one for one in found.get(key, []) if one.record["seed"] == run.record["seed"]), None)
        if twin is not None:
            refused.append(_same_run(run, twin))
            continue
        found.setdefault(key, []).append(run)
        flat[key] = values
    keys = [key for key in found if flat[key].get(KIND) != "none"]
    varying = _varying([flat[key] for key in keys])
    names = _names([flat[key] for key in keys])
    made = [
        Configuration(
            name,
            str(flat[key].get(KIND)),
            quantization_of(found[key][0]),
            {axis: flat[key][axis] for axis in varying if axis in flat[key]},
            tuple(sorted(found[key], key=lambda run: int(run.record["seed"]))),
        )
        for key, name in zip(keys, names, strict=True)
    ]
    return made, varying, refused


def _same_run(run: Run, twin: Run) -> Refused:
    seed = run.record["seed"]
    values = {"folder": str(twin.folder), "seed": seed}
    same = f"same configuration and seed ({seed}) as {twin.folder}"
    # A base alone has no adapted model, and the base's scores are all there is to compare.
    if all(run.record["evaluation"].get(model) == twin.record["evaluation"].get(model) for model in (BASE, ADAPTED)):
        return Refused(
            run.folder, reason("same_run", f"{same}, with the same scores; only the first is counted", **values)
        )
    text = f"{same}, but with other scores; only the first is counted"
    return Refused(run.folder, reason("same_run_other_scores", text, **values))


def _values(run: Run) -> dict[str, Any]:
    """What decides the run's result besides the seed, by dotted key."""
    config = run.record["config"]
    try:
        values = parse_config(config).identity()
    except UserError:  # imported figures, or a record of another program version: as it stands
        values = dict(config)
    values = {key: value for key, value in values.items() if key not in _LEFT_OUT}
    if isinstance(values.get("eval"), Mapping):
        values["eval"] = {key: value for key, value in values["eval"].items() if key not in _LEFT_OUT_OF_EVAL}
    trained = (values.get("task") or {}).get("name")
    scored = values.get("eval", {}).pop("tasks", {})
    flat = _flat(values)
    # Where a file lies does not matter, what was read from it does; how items were asked is equal within a group.
    flat = {key: value for key, value in flat.items() if key not in ("task.path", "model.path")}
    # Rows per process: four processes with 4 rows train as one with 16 does.
    if isinstance(rows := flat.get(BATCH_SIZE), int):
        flat[BATCH_SIZE] = rows * int(run.record["host"].get("processes") or 1)
    training = (run.record["data"].get(trained) or {}).get("train") or {}
    flat[DATA] = str(training.get("fingerprint", ""))[:8]
    if run.imported:
        flat |= {f"scored.{key}": value for key, value in _flat(scored).items()}
    return flat


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _varying(all_values: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Keys with more than one value; an adapter's own keys are compared among adapters of its kind only."""
    keys = list(dict.fromkeys(key for values in all_values for key in values))
    found = [KIND] if len({values.get(KIND) for values in all_values}) > 1 else []
    for key in keys:
        own = key.startswith("adapter.")
        kinds = {values.get(KIND) for values in all_values} if own else {None}
        for kind in kinds:
            several = [values for values in all_values if not own or values.get(KIND) == kind]
            if key != KIND and len({_text(values.get(key)) for values in several}) > 1:
                found.append(key)
                break
    if DATA in found and len(found) > 1 and any(key.startswith("task.") for key in found):
        found.remove(DATA)  # a setting of the data says it better
    return tuple(sorted(found, key=_order))


def _names(all_values: Sequence[Mapping[str, Any]]) -> list[str]:
    """``lora r=16``: the kind and as few keys as tell its configurations apart."""
    names = [""] * len(all_values)
    for kind in dict.fromkeys(str(values.get(KIND)) for values in all_values):
        members = [number for number, values in enumerate(all_values) if str(values.get(KIND)) == kind]
        keys = _telling([all_values[number] for number in members])
        for number in members:
            words = [f"{label(key, keys)}={_short(all_values[number].get(key))}" for key in keys]
            names[number] = " ".join([kind, *words])
    return names


def _telling(members: Sequence[Mapping[str, Any]]) -> list[str]:
    chosen: list[str] = []
    parts = 1
    for key in _varying(members):
        several = {tuple(_text(values.get(one)) for one in (*chosen, key)) for values in members}
        if len(several) > parts:
            chosen.append(key)
            parts = len(several)
    if parts < len({json.dumps(values, sort_keys=True) for values in members}):
        chosen.append(DATA)
    return chosen


def _order(key: str) -> tuple[int, int, str]:
    """The kind, then an adapter's size, its other keys, then everything else."""
    if key == KIND:
        return 0, 0, key
    name = key.removeprefix("adapter.")
    if name == key:
        return 2, 0, key
    return 1, _FIRST.index(name) if name in _FIRST else len(_FIRST), key


def label(key: str, keys: Sequence[str]) -> str:
    """A dotted key as a short word that tells it from the others in ``keys``."""
    if key.startswith("adapter."):
        return key.removeprefix("adapter.")
    section, _, last = key.rpartition(".")
    if last in ("kind", "name"):
        return section
    return last if sum(other.rpartition(".")[2] == last for other in keys) == 1 else key


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_short, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
