"""What MLflow is told about a sweep as a whole: pure functions of its ledger and its runs' records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_exp.errors import UserError
from adapter_exp.sweep.ledger import JobEntry
from adapter_exp.sweep.rows import best_job, counts, names, told_counts
from adapter_exp.tracking import contents
from adapter_exp.tracking.record import RECORD_FILE, RecordData, RunRecord

MAX_TABLE_ROWS = 40
GROUP_PARAMETERS = {
    "adapter": "adapter.kind",
    "model": "model.name",
    "quantization": "quantization.kind",
    "task": "task.name",
}
"""The parameter that tells which file of a group was chosen."""


@dataclass(frozen=True)
class Child:
    """One job with its run's record; None when it has not begun one, or left a damaged one."""

    job: JobEntry
    record: RunRecord | None

    @property
    def data(self) -> RecordData:
        """The record, empty sections included when there is none."""
        empty: RecordData = {
            "tasks": {},
            "evaluation": {},
            "validation": {},
            "model": {},
            "resources": {},
            "config": {},
        }
        return empty if self.record is None else self.record.data

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the run."""
        if self.record is None:
            return None
        found: str | None = self.record.data["tracking"].get("mlflow", {}).get("run_id")
        return found


def read_children(sweep_dir: Path, jobs: Sequence[JobEntry]) -> list[Child]:
    """Each job with its record, in the order of ``jobs``."""
    return [Child(job, _record(sweep_dir / str(job.number))) for job in jobs]


def status(jobs: Sequence[JobEntry]) -> str:
    """MLflow's status of a sweep that no process is running."""
    if jobs and all(job.state == "ok" for job in jobs):
        return "FINISHED"
    return "FAILED" if jobs and all(job.state in ("ok", "failed", "oom") for job in jobs) else "KILLED"


def axis_parameters(axes: Sequence[str], children: Sequence[Child]) -> list[str]:
    """Names of the runs' parameters that the axes change, in the order of the axes.

    An axis can choose a file (``adapter=lora,mlp``, ``experiment=a,b``): then it is the parameter that names the
    choice, or else all parameters below the axis (of ``experiment``: of the run) that differ between the runs.
    """
    flat = [contents.parameters(child.record.data) for child in children if child.record is not None]
    found: dict[str, None] = {}
    for axis in (axis.lstrip("+~") for axis in axes):
        if any(axis in values for values in flat) or (not flat and _is_parameter(axis)):
            found[axis] = None
        elif axis in GROUP_PARAMETERS:
            found[GROUP_PARAMETERS[axis]] = None
        else:
            found |= dict.fromkeys(_differing(flat, "" if axis == "experiment" else f"{axis}."))
    return list(found)


def headline_metrics(children: Sequence[Child]) -> list[str]:
    """Names of the few metrics that a table of the sweep's runs should show, the one to choose by first."""
    chosen = [name for child in children if (name := _objective(child)) is not None]
    found = dict.fromkeys(chosen[:1])
    tasks = {task: entry for child in children for task, entry in child.data["tasks"].items()}
    for task, entry in sorted(tasks.items(), key=lambda item: item[1]["role"] != "special"):
        models = ("adapted", "change") if entry["role"] == "special" else ("change",)
        found |= dict.fromkeys(f"evaluation/{model}/{task}/{entry['primary']}" for model in models)
    if tasks:
        found |= dict.fromkeys(("model/trainable_parameters", "resources/wall_s", "gates/failed"))
    measured = {name for child in children if child.record is not None for name in contents.metrics(child.record.data)}
    return [name for name in found if name in measured]


def metrics(jobs: Sequence[JobEntry], *, maximise: bool = True) -> dict[str, float]:
    """How many jobs are in each state, and the best objective with its job's number."""
    values: dict[str, float] = {f"jobs/{state}": count for state, count in counts(jobs).items()}
    best = best_job(jobs, maximise=maximise)
    if best is not None and best.objective is not None:
        values |= {"objective/best": best.objective, "objective/best_job": best.number}
    return {"jobs/total": len(jobs), **values}


def summary_table(children: Sequence[Child], parameters: Sequence[str]) -> dict[str, Any]:
    """One row per job, in the form of MLflow's table artifacts (``columns`` and ``data``)."""
    shown = headline_metrics(children)
    columns = ["job", "state", *parameters, "objective", *shown, "error", "run_id"]
    rows = []
    for child in children:
        flat = {} if child.record is None else contents.parameters(child.record.data)
        measured = {} if child.record is None else contents.metrics(child.record.data)
        job = child.job
        rows.append(
            [
                *(job.number, job.state),
                *(flat.get(name) for name in parameters),
                job.objective if job.objective is not None and math.isfinite(job.objective) else None,
                *(measured.get(name) for name in shown),
                *(job.error, child.run_id),
            ]
        )
    return {"columns": columns, "data": rows}


def description(
    name: str,
    overrides: Sequence[str],
    children: Sequence[Child],
    parameters: Sequence[str],
    link: str | None,
    *,
    maximise: bool = True,
) -> str:
    """The parent's description in Markdown: what was run, how it went, the table, where to look."""
    jobs = [child.job for child in children]
    lines = [f"**Sweep {name}**: {told_counts(jobs)}", "", f"`{' '.join(overrides)}`", ""]
    if link is not None:
        lines += [f"[Table of its runs, with the columns that vary]({link})", ""]
    best = best_job(jobs, maximise=maximise)
    if best is not None:
        told = f"job {best.number} {names(jobs)[best.config_hash]}".rstrip()
        lines += [f"Best objective (validation): **{best.objective:.4g}**, {told}", ""]
    if children:
        lines += _markdown(summary_table(children, parameters))
    return _fitting(lines)


def _markdown(table: Mapping[str, Any]) -> list[str]:
    kept = [index for index, name in enumerate(table["columns"]) if name != "run_id"]
    rows = [[_cell(row[index]) for index in kept] for row in table["data"]]
    more = len(rows) - MAX_TABLE_ROWS
    lines = [[table["columns"][index] for index in kept], ["---"] * len(kept), *rows[:MAX_TABLE_ROWS]]
    told = ["", f"{more} more rows in `summary.json`"] if more > 0 else []
    return [f"| {' | '.join(line)} |" for line in lines] + told


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        value = f"{value:.0f}" if value.is_integer() else f"{value:.4g}"
    return " ".join(str(value).split()).replace("|", "\\|")[:120]


def _fitting(lines: Sequence[str]) -> str:
    """As many whole lines as a tag can hold; half a row would break the table."""
    kept: list[str] = []
    for line in lines:
        if sum(map(len, kept)) + len(kept) + len(line) > contents.MAX_TAG - 100:
            return "\n".join([*kept, "", "The rest is in `summary.json`."])
        kept.append(line)
    return "\n".join(kept)


def _objective(child: Child) -> str | None:
    """The metric that the sweep searches by, as MLflow names it in the run."""
    wanted = child.data["config"].get("eval", {}).get("objective")
    task = child.data["config"].get("task", {}).get("name")
    if wanted is None and task in child.data["tasks"]:
        wanted = f"{task}/{child.data['tasks'][task]['primary']}"
    return None if wanted is None else f"validation/adapted/{wanted}"


def _is_parameter(axis: str) -> bool:
    return "." in axis or axis in ("seed", "device")


def _differing(flat: Sequence[Mapping[str, str]], prefix: str) -> list[str]:
    keys = dict.fromkeys(key for values in flat for key in values if key.startswith(prefix))
    skipped = ("tracking.", "cache_dir", "output_dir", "resume")
    return [key for key in keys if not key.startswith(skipped) and len({values.get(key) for values in flat}) > 1]


def _record(folder: Path) -> RunRecord | None:
    if not (folder / RECORD_FILE).is_file():
        return None
    try:
        return RunRecord.load(folder)
    except UserError:  # cut short, or of another version
        return None
