"""What surrounds a run: its folder, record, MLflow copy, progress display, clock and the ways it can end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adapter_exp.config import Config
from adapter_exp.errors import Cancelled, UserError
from adapter_exp.evaluation.batch_size import out_of_memory
from adapter_exp.parallel.world import ALONE, World
from adapter_exp.report.progress import Phase, Progress
from adapter_exp.report.terminal import make_console, print_notes, print_summary
from adapter_exp.resume import locked
from adapter_exp.tracking.mlflow_log import MlflowRun, note_tracking
from adapter_exp.tracking.record import RECORD_FILE, RunRecord, load_record
from adapter_exp.tracking.resources import Phases, reset_peaks
from adapter_exp.training.cancel import Cancellation

if TYPE_CHECKING:
    from rich.console import Console

EndStatus = Literal["failed", "oom", "cancelled"]
PROGRESS_FILE = "progress.json"
# Within so long a launcher passes a signal on that the terminal has sent to all processes.
_ECHO_S = 2.0


@dataclass(frozen=True)
class InSweep:
    """How a job of a sweep differs from a run of its own.

    Attributes:
        console: where it writes, since the terminal belongs to the sweep.
        parent_run_id: MLflow's id of the sweep's run, None when there is none.
    """

    console: Console
    parent_run_id: str | None


@dataclass(frozen=True)
class Session:
    """The surroundings of one run; made by ``open_session``.

    Attributes:
        world: the processes that make this run together. Each has a session; only the first one's is seen by anybody.
    """

    run_dir: Path
    record: RunRecord
    tracker: MlflowRun
    cancellation: Cancellation
    phases: Phases
    progress: Progress
    console: Console
    world: World = ALONE

    @contextmanager
    def phase(self, name: str, *, unit: str = "items") -> Iterator[Phase]:
        """Time and show one phase of the run; the record is up to date when it ends."""
        with self.phases.phase(name), self.progress.phase(name, unit=unit) as shown:
            yield shown
        self.record.update("resources", self.phases.measured())

    def note(self, *lines: str) -> None:
        """Show lines that are worth knowing and no faults."""
        print_notes(lines, console=self.console)


@contextmanager
def open_session(
    config: Config, run_dir: Path, in_sweep: InSweep | None = None, *, world: World = ALONE
) -> Iterator[Session]:
    """Open the record and MLflow around the block, and close both as it ended.

    Whatever ends the block is raised again, after the record says ``cancelled``, ``oom`` or ``failed`` with the
    traceback, and MLflow's run is closed accordingly.

    Raises:
        UserError: if a living process holds the folder.
    """
    console = make_console() if in_sweep is None else in_sweep.console
    with _folder_of_its_own(run_dir):
        former = _former_mlflow_run(run_dir)  # before the new record takes the old one's place
        reset_peaks()
        record = RunRecord.create(
            run_dir,
            run_id=_run_id(run_dir),
            config=config.model_dump(mode="json"),
            config_hash=config.sha256,
            seed=config.seed,
        )
        if former is not None:  # a kill before MLflow is open must not lose it
            note_tracking(record, logged=False, run_id=former, reason="not opened")
        progress = Progress(console, status_file=None if in_sweep is None else run_dir / PROGRESS_FILE)
        phases, cancellation = Phases(), Cancellation(echo_s=_ECHO_S if world.size > 1 else 0.0)
        with cancellation.listening(), _recorded_end(record, phases):
            shown = progress.phase("open MLflow") if config.tracking.kind == "mlflow" else contextlib.nullcontext()
            with phases.phase("open MLflow"), shown:
                tracker = MlflowRun.open(
                    record,
                    config.tracking,
                    output_root=Path(config.output_dir),
                    go_on_with=former,
                    parent_run_id=None if in_sweep is None else in_sweep.parent_run_id,
                )
            try:
                with world.heeding():
                    yield Session(run_dir, record, tracker, cancellation, phases, progress, console, world)
                _close_well(record, phases, run_dir)
            except BaseException as error:
                _close_badly(record, error)
                raise
            finally:
                tracker.finish()
                print_summary(record.data, run_dir=run_dir, console=console)


def _run_id(run_dir: Path) -> str:
    """The folder's name; the jobs of a sweep are numbered folders, so the sweep's name goes before the number."""
    return f"{run_dir.parent.name}-{run_dir.name}" if run_dir.name.isdigit() else run_dir.name


def _former_mlflow_run(run_dir: Path) -> str | None:
    """MLflow's id of the run that an earlier process began in this folder; None for a new folder."""
    if not (run_dir / RECORD_FILE).is_file():
        return None
    run_id: str | None = load_record(run_dir)["tracking"]["mlflow"]["run_id"]
    return run_id


@contextmanager
def _folder_of_its_own(run_dir: Path) -> Iterator[None]:
    try:
        with locked(run_dir):
            yield
    except BlockingIOError as error:
        raise UserError(f"{run_dir}: another process is working in this folder; wait for it or stop it.") from error


@contextmanager
def _recorded_end(record: RunRecord, phases: Phases) -> Iterator[None]:
    """Close the record also when something fails before or while MLflow is opened."""
    try:
        yield
    except BaseException as error:
        if record.data["status"] == "running":
            _close_badly(record, error)
        raise


def _close_well(record: RunRecord, phases: Phases, run_dir: Path) -> None:
    from adapter_exp.report.plots import write_plots

    write_plots(run_dir, record.data)
    record.update("resources", phases.measured())
    record.finish("ok")


def _close_badly(record: RunRecord, error: BaseException) -> None:
    # A full disk is one of the ways a run ends; it must not hide the reason behind its own error.
    with contextlib.suppress(OSError):
        record.fail(error, status=end_status(error))


def end_status(error: BaseException) -> EndStatus:
    """How a record tells what ended its run."""
    if isinstance(error, Cancelled | KeyboardInterrupt):
        return "cancelled"
    if out_of_memory(error):
        return "oom"
    return "failed"
