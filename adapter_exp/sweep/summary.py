"""What a sweep tells its user when it ends: every job, what went wrong and where to read it, and how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adapter_exp.errors import UserError
from adapter_exp.report.terminal import ui_command
from adapter_exp.report.words import duration, number
from adapter_exp.sweep.arguments import RESUME, maximises
from adapter_exp.sweep.job import TERMINAL_FILE
from adapter_exp.sweep.ledger import LEDGER_FILE, JobEntry
from adapter_exp.sweep.rows import STATE_WORDS, WENT_BADLY, best_job, names, seconds, told_counts
from adapter_exp.tracking.record import ERROR_FILE, RECORD_FILE, RecordData, load_record

MAX_ROWS = 50
LABEL_WIDTH = 10
REPORT = "comparison/report.md"


def print_sweep_summary(sweep_dir: Path, jobs: Sequence[JobEntry], console: Console) -> None:
    """Print the table of jobs, each job that went badly with its traceback's file, and the commands that go on.

    Args:
        jobs: as the ledger has them.
    """
    all_ok = bool(jobs) and all(job.state == "ok" for job in jobs)
    console.print()
    title = Text.assemble(("sweep ", ""), (_shown(sweep_dir).name, "bold"), "  ")
    console.print(title.append(told_counts(jobs), style="bold green" if all_ok else "bold red"), soft_wrap=True)
    best = best_job(jobs, maximise=maximises(sweep_dir))
    if jobs:
        console.print(_table(jobs, best))
    for line in _failures(sweep_dir, jobs):
        console.print(line, soft_wrap=True)  # paths and commands stay on one line, to be copied
    for name, text in _places(sweep_dir, jobs, best):
        console.print(Text.assemble((f"{name:<{LABEL_WIDTH}}  ", "dim"), text), soft_wrap=True)


def _table(jobs: Sequence[JobEntry], best: JobEntry | None) -> Table:
    shown, short, now = _worth_showing(jobs, best), names(jobs), datetime.now(UTC)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    if len(shown) < len(jobs):
        table.caption = f"{len(jobs) - len(shown)} more jobs in {LEDGER_FILE}"
    table.add_column("job", justify="right", no_wrap=True)
    table.add_column("what differs", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("objective", justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    for job in shown:
        lasted = seconds(job, now) if job.ended else None
        style = "green" if job.state == "ok" else "bold red" if job.state in WENT_BADLY else "dim"
        table.add_row(
            str(job.number),
            Text(short[job.config_hash]),
            Text(STATE_WORDS[job.state], style=style),
            number(job.objective),
            "-" if lasted is None else duration(lasted),
            style="bold" if job is best else "",
        )
    return table


def _worth_showing(jobs: Sequence[JobEntry], best: JobEntry | None) -> list[JobEntry]:
    """All jobs, or of a long sweep those that did not end well and the first ones, in their order."""
    if len(jobs) <= MAX_ROWS:
        return list(jobs)
    first = sorted(jobs, key=lambda job: (job is not best, job.state == "ok", job.number))
    return sorted(first[:MAX_ROWS], key=lambda job: job.number)


def _failures(sweep_dir: Path, jobs: Sequence[JobEntry]) -> Iterable[Text]:
    short = names(jobs)
    for job in jobs:
        if job.state not in WENT_BADLY:
            continue
        told = " ".join((job.error or STATE_WORDS[job.state]).split())
        what = f"job {job.number} {short[job.config_hash]}".rstrip()
        yield Text.assemble((f"{STATE_WORDS[job.state]}: {what}: ", "bold red"), told)
        folder = _shown(sweep_dir) / str(job.number)
        found = next((name for name in (ERROR_FILE, TERMINAL_FILE) if (folder / name).is_file()), None)
        if found is not None:
            yield Text(f"    {folder / found}", style="dim")


def _places(sweep_dir: Path, jobs: Sequence[JobEntry], best: JobEntry | None) -> Iterable[tuple[str, str]]:
    folder = _shown(sweep_dir)
    quoted = shlex.quote(str(folder))
    if best is not None:
        name = names(jobs)[best.config_hash]
        equal = sum(job.state == "ok" and job.objective == best.objective for job in jobs) - 1
        more = f", the same as {equal} other {'job' if equal == 1 else 'jobs'}" if equal else ""
        yield "best", f"job {best.number} {name}".rstrip() + f", objective {number(best.objective)} on validation{more}"
    yield "folder", str(folder)
    if any(job.state != "ok" for job in jobs):
        yield "go on", f"python -m adapter_exp.run -m {shlex.quote(f'{RESUME}{folder}')}"
    if any(job.state == "ok" for job in jobs):
        if (sweep_dir / REPORT).is_file():
            yield "report", str(folder / REPORT)
        yield "compare", f"python -m adapter_exp.compare {quoted}"
    record = _first_record(sweep_dir, jobs)
    if record is not None:
        logged = record["tracking"].get("mlflow", {}).get("logged")
        replay = f"not in MLflow; to log it: python -m adapter_exp.tracking.replay {quoted}"
        yield "browse", ui_command(record) if logged else replay


def _first_record(sweep_dir: Path, jobs: Sequence[JobEntry]) -> RecordData | None:
    for job in jobs:
        if (sweep_dir / str(job.number) / RECORD_FILE).is_file():
            try:
                return load_record(sweep_dir / str(job.number))
            except UserError:  # damaged or of another version: another one will do
                continue
    return None


def _shown(folder: Path) -> Path:
    """The folder as a user would type it: relative where it lies below the working directory."""
    return folder.relative_to(Path.cwd()) if folder.is_absolute() and folder.is_relative_to(Path.cwd()) else folder
