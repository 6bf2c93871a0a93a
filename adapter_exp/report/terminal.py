"""What a run tells its user in the terminal. Reads the record, nothing else."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from adapter_exp.errors import UserError
from adapter_exp.evaluation.gates import withheld_by
from adapter_exp.report import words

MIN_WIDTH, MAX_WIDTH, FILE_WIDTH = 80, 120, 110
LABEL_WIDTH = 13
VERDICT_STYLE = {words.HIGHER: "green", words.LOWER: "magenta", words.WITHHELD: "yellow"}


def make_console(*, stderr: bool = False, file: IO[str] | None = None) -> Console:
    """A console of 80 to 120 columns; in a file or pipe it is plain text without control codes."""
    console = Console(stderr=stderr, file=file, highlight=False)
    wanted = console.width if console.is_terminal else FILE_WIDTH
    console.width = min(max(wanted, MIN_WIDTH), MAX_WIDTH)
    return console


def print_error(error: UserError) -> None:
    """Print each fault as one line on the standard error stream."""
    console = make_console(stderr=True)
    for fault in error.faults:
        console.print(Text.assemble(("error ", "bold red"), " ".join(fault.splitlines())), soft_wrap=True)


def print_notes(notes: Iterable[str], *, console: Console) -> None:
    """Print things worth knowing that are no faults (the chosen dtype, rows that were cut)."""
    for note in notes:
        console.print(Text.assemble(("note ", "cyan"), note), soft_wrap=True)


def print_example(prompt: str, supervised: str, *, console: Console) -> None:
    """Print one training row as the model sees it, line feeds and special tokens included, supervised part in bold."""
    parts = ((prompt, "dim"), (supervised, "bold green"))
    shown = [(text.replace("\n", "\u21b5"), style) for text, style in parts]
    console.print(Text.assemble(("row ", "cyan"), *shown), soft_wrap=True)
    if not console.is_terminal:  # without colours the boundary would be lost
        console.print(Text(f"supervised: {shown[1][0]}"), soft_wrap=True)


def print_summary(record: Mapping[str, Any], *, run_dir: Path, console: Console) -> None:
    """Print a run's results, what is withheld and why, its costs, and where to look next.

    Args:
        record: the record, see ``tracking.record``.
        run_dir: its folder.
    """
    console.print()
    console.print(_title(record), soft_wrap=True)
    if record["error"]:
        message = (record["error"]["message"].splitlines() or [""])[0]
        console.print(Text.assemble(("error ", "bold red"), f"{record['error']['type']}: {message}"), soft_wrap=True)
    if words.task_names(record):
        console.print(_results(record, console.width))
    if words.failed_gates(record):
        console.print(Padding(_withheld(record), (0, 0, 1, 0)))
    console.print(_costs(record))
    for line in _places(record, run_dir):
        console.print(line, soft_wrap=True)  # paths and commands stay on one line, to be copied


def _title(record: Mapping[str, Any]) -> Text:
    model, adapter = record["model"], record["config"].get("adapter", {})
    on = f" on {model['name']}" if model.get("name") else ""
    quantization = f" ({model['quantization']})" if model.get("quantization") else ""
    status = str(record["status"])
    what = f"  {adapter.get('kind', 'run')}{on}{quantization}, seed {record['seed']}  "
    return Text.assemble((record["run_id"], "bold"), what, (status, "bold green" if status == "ok" else "bold red"))


def _results(record: Mapping[str, Any], width: int) -> Table:
    """One row per metric, primary metrics first and bold; ``trivial`` is the best answer that needs no model."""
    narrow = width < FILE_WIDTH  # in 80 columns the names of metrics need the room
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0 if narrow else 1), header_style="dim")
    for heading in ("task", "metric"):
        table.add_column(heading, overflow="fold")
    for heading in ("trivial", "base", "adapted", "change"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("95 % interval", no_wrap=True)
    table.add_column("adapted is", overflow="fold", max_width=len("difference") if narrow else None)
    for task in words.task_names(record):
        withheld = words.withheld_findings(record, task)
        metrics = words.metric_names(record, task)
        for position, metric in enumerate(metrics):
            table.add_row(
                Text(task if position == 0 else ""),
                *_row(record, task, metric, withheld),
                style="bold" if metric == words.primary_metric(record, task) else "",
                end_section=position == len(metrics) - 1,
            )
    return table


def _row(record: Mapping[str, Any], task: str, metric: str, withheld: frozenset[str]) -> list[Text]:
    trivial, base, adapted = (words.result(record, model, task, metric) for model in ("baseline", "base", "adapted"))
    change = words.result(record, "change", task, metric)
    found = words.verdict(change, withheld=withheld)
    ends = [words.number(change[end], signed=True) for end in ("low", "high")] if change else []
    return [
        Text(metric),
        *(Text(words.number(one["value"] if one else None)) for one in (trivial, base, adapted)),
        Text(words.number(change["value"] if change else None, signed=True)),
        Text(f"[{', '.join(ends)}]" if ends else "-"),
        Text(found, style=VERDICT_STYLE.get(found, "dim")),
    ]


def _withheld(record: Mapping[str, Any]) -> Table:
    table = _grid()
    for gate in words.failed_gates(record):
        task = gate.get("task")
        claim = "no claim" if "lower" in withheld_by(gate) else "no claim but of a loss"
        scope = f"{claim} on {task or 'any task'}"
        finding = f"{gate['reason']} [{gate['name']}]"
        if gate.get("model") == "base":
            table.add_row(Text("base model", style="dim"), Text(f"{task}: {finding}", style="dim"))
        else:
            table.add_row(Text("withheld", style="bold yellow"), Text(f"{scope}: {finding}"))
    return table


def _costs(record: Mapping[str, Any]) -> Table:
    table = _grid()
    for name, value in _cost_lines(record):
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def _cost_lines(record: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    model, training, resources = record["model"], record["training"], record["resources"]
    trainable, total = model.get("trainable_parameters"), model.get("total_parameters")
    if trainable is not None and total:
        saved = f", {words.size(model['adapter_bytes'])} saved" if model.get("adapter_bytes") else ""
        yield "parameters", f"{trainable:,} trainable of {total:,} ({trainable / total:.2%}){saved}"
    losses = [point["loss"] for point in training.get("loss", []) if point["loss"] is not None]
    if losses:
        speed = f", {training['tokens_per_s']:.0f} tokens/s" if training.get("tokens_per_s") else ""
        yield "training", f"{training.get('steps', len(losses))} steps, loss {losses[0]:.3f} to {losses[-1]:.3f}{speed}"
    if resources.get("wall_s") is not None:
        longest_first = sorted(resources.get("phases_s", {}).items(), key=lambda phase: -phase[1])
        phases = ", ".join(f"{name} {words.duration(seconds)}" for name, seconds in longest_first)
        yield "time", words.duration(resources["wall_s"]) + (f": {phases}" if phases else "")
    if resources.get("peak_rss_bytes") is not None:
        device = resources.get("peak_device_bytes")
        on_device = f", {words.size(device)} on the GPU" if device is not None else ""
        yield "peak memory", f"{words.size(resources['peak_rss_bytes'])} of the process{on_device}"


def _places(record: Mapping[str, Any], run_dir: Path) -> list[Text]:
    """Where the run lies, and the command that shows it in MLflow or brings it there."""
    tracked = record["tracking"].get("mlflow", {})
    lines = [("run folder", str(run_dir))]
    if tracked.get("logged"):
        lines.append(("browse", ui_command(record)))
    else:
        replay = f"python -m adapter_exp.tracking.replay {shlex.quote(str(run_dir))}"
        lines += [("not in MLflow", str(tracked.get("reason"))), ("log it later", replay)]
    return [Text.assemble((f"{name:<{LABEL_WIDTH}}  ", "dim"), value) for name, value in lines]


def ui_command(record: Mapping[str, Any]) -> str:
    """The command that opens MLflow where this record was logged."""
    uri = record["config"].get("tracking", {}).get("uri")
    if uri:
        return str(uri) if uri.startswith("http") else f"mlflow server --backend-store-uri {shlex.quote(uri)}"
    root = record["config"].get("output_dir", "outputs")
    return "make ui" if root == "outputs" else f"make ui OUTPUTS={shlex.quote(root)}"


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, min_width=LABEL_WIDTH)
    table.add_column(overflow="fold")
    return table
