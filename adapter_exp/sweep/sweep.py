"""A sweep as its parent process sees it: folder, ledger, MLflow's parent run, live view, and its end."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from adapter_exp.errors import UserError
from adapter_exp.files import write_json_atomic
from adapter_exp.resume import is_free, locked, remove_unused
from adapter_exp.sweep.arguments import RESUME, SWEEP_FILE, read_sweep, without_resume
from adapter_exp.sweep.job import NO_OBJECTIVE, Ended, ended_run
from adapter_exp.sweep.launching import Launch, launch_all
from adapter_exp.sweep.ledger import LEDGER_FILE, JobEntry, Ledger
from adapter_exp.sweep.plan import PlannedJob, axes_of, by_base, numbered, plan_jobs, readable
from adapter_exp.tracking.specs import TrackingConfig

if TYPE_CHECKING:
    from hydra.types import HydraContext

_current: Sweep | None = None


def launch_jobs(
    context: HydraContext, master: DictConfig, job_overrides: Sequence[Sequence[str]], launch: Launch
) -> list[JobReturn]:
    """Run what is not done yet of these jobs; called once by Hydra's own sweeper, once a batch by a search.

    Returns:
        for each list of overrides, in order, the job's objective; NaN for a job that failed or has none.

    Raises:
        UserError: before any job has started, with all faults of all jobs.
    """
    global _current
    folder = Path(str(master.hydra.sweep.dir)).absolute()
    wanted = [without_resume(overrides) for overrides in job_overrides]
    if _current is None:
        try:
            refuse_taken(folder, master)
            jobs = plan_jobs(context.config_loader, master, wanted, folder)
        except UserError:
            remove_unused(folder)  # Hydra makes it before the jobs are checked
            raise
        _current = Sweep(folder, master, jobs)
    else:
        jobs = plan_jobs(context.config_loader, master, wanted, folder)
    return _current.run(jobs, launch)


def close_current(ended_by: BaseException | None) -> bool:
    """End the sweep of this process: comparison, summary, MLflow's parent run.

    Args:
        ended_by: what ended it early, if anything.

    Returns:
        whether every job of its ledger went well; true without a sweep.
    """
    global _current
    sweep, _current = _current, None
    return True if sweep is None else sweep.close(ended_by)


class Sweep:
    """A running sweep; made by the first ``launch_jobs``, closed by ``close_current``."""

    def __init__(self, folder: Path, master: DictConfig, jobs: Sequence[PlannedJob]) -> None:
        from adapter_exp.report.terminal import make_console

        self.folder = folder
        self.ledger = Ledger(folder)
        self._language = str(master.lang)
        self._tried: set[str] = set()
        self._stack = ExitStack()
        try:
            self._stack.enter_context(locked(folder))
        except BlockingIOError as error:
            raise _busy(folder) from error
        self._console = make_console(file=sys.stdout)  # by name: what jobs print goes elsewhere
        self._parent = self._open_parent(master, jobs)
        trials = master.hydra.sweeper.get("n_trials")  # of a search, which hands over a few jobs at a time
        self._show(len({job.config_hash for job in jobs}) if trials is None else int(trials))

    def run(self, jobs: Sequence[PlannedJob], launch: Launch) -> list[JobReturn]:
        """Run the jobs that have not ended well yet, each configuration at most once in this process."""
        ended: dict[str, Ended] = {}
        for job in {job.config_hash: job for job in jobs}.values():
            done = self._done(job)
            if done is not None:
                ended[job.config_hash] = done
        waiting = by_base(job for job in jobs if job.config_hash not in ended)
        for job in waiting:
            self.ledger.append(job.config_hash, job.number, "queued", overrides=list(map(readable, job.overrides)))
        self._tried |= {job.config_hash for job in waiting}
        launch_all(self.ledger, waiting, launch)
        states = {entry.config_hash: entry for entry in self.ledger.jobs()}
        return [_returned(job, states[job.config_hash].objective) for job in jobs]

    def close(self, ended_by: BaseException | None) -> bool:
        """See ``close_current``."""
        from adapter_exp.sweep.summary import print_sweep_summary

        with self._stack:
            self._view.close()
            jobs = self.ledger.jobs()
            all_ok = all(job.state == "ok" for job in jobs)
            if any(job.state == "ok" for job in jobs):
                self._compare()
            status = "FINISHED" if all_ok else "KILLED" if isinstance(ended_by, KeyboardInterrupt) else "FAILED"
            self._parent.finish(status=status, sweep_dir=self.folder, jobs=jobs)
            print_sweep_summary(self.folder, jobs, self._console)
        return all_ok

    def _done(self, job: PlannedJob) -> Ended | None:
        """How the job ended well before, or badly in this very process; a kill may have kept it from the ledger."""
        entry = self._entry(job)
        ended = ended_run(job.config, self._folder_of(job))
        if ended is None or (ended.state != "ok" and job.config_hash not in self._tried):
            return None
        known = entry is not None and entry.state == "ok"
        if ended.state == "ok" and (entry is None or not known or entry.objective != ended.objective):
            self.ledger.append(job.config_hash, job.number, "ok", objective=ended.objective)
        if ended.state == "ok" and not known:
            self._complete_in_mlflow(job)
        return ended

    def _entry(self, job: PlannedJob) -> JobEntry | None:
        return next((entry for entry in self.ledger.jobs() if entry.config_hash == job.config_hash), None)

    def _folder_of(self, job: PlannedJob) -> Path:
        return self.folder / str(job.number)

    def _open_parent(self, master: DictConfig, jobs: Sequence[PlannedJob]) -> Any:
        from adapter_exp.tracking.sweep_log import open_parent

        former = read_sweep(self.folder) if (self.folder / SWEEP_FILE).is_file() else {}
        values: Mapping[str, Any] = {
            "name": self.folder.name,
            "created_at": former.get("created_at", datetime.now(UTC).isoformat(timespec="seconds")),
            "arguments": sys.argv[1:],
            "overrides": without_resume(master.hydra.overrides.task),
            "maximise": _maximises(master, jobs),
            "mlflow": former.get("mlflow", {"parent_run_id": None, "reason": "not opened"}),
        }
        write_json_atomic(self.folder / SWEEP_FILE, values)
        parent = open_parent(
            TrackingConfig.model_validate(OmegaConf.to_container(master.tracking, resolve=True)),
            output_root=Path(str(master.output_dir)),
            name=self.folder.name,
            overrides=values["overrides"],
            axes=_axes(master, jobs),
            go_on_with=values["mlflow"]["parent_run_id"],
        )
        reached = {"parent_run_id": parent.run_id, "reason": parent.reason}
        write_json_atomic(self.folder / SWEEP_FILE, {**values, "mlflow": reached})
        return parent

    def _show(self, total: int) -> None:
        from adapter_exp.sweep.view import SweepView

        self._view = ExitStack()
        self._view.enter_context(SweepView(self.folder, console=self._console, total=total))

    def _complete_in_mlflow(self, job: PlannedJob) -> None:
        """A job that was killed between its record's end and MLflow's."""
        from adapter_exp.tracking.record import RunRecord
        from adapter_exp.tracking.replay import replay

        if job.config.tracking.kind == "mlflow":
            with contextlib.suppress(UserError):  # a tracker that is away never ends a sweep
                record = RunRecord.load(self._folder_of(job))
                replay(record, job.config.tracking, output_root=Path(job.config.output_dir))

    def _compare(self) -> None:
        try:
            from adapter_exp.compare import write_report
            from adapter_exp.comparison.compare import compare_runs
            from adapter_exp.comparison.runs import read_runs
            from adapter_exp.tracking.sweep_log import COMPARISON_FOLDER

            comparison = compare_runs(*read_runs([self.folder]))
            write_report(comparison, self.folder / COMPARISON_FOLDER, self._language)
        except Exception as error:  # noqa: BLE001 - the runs are worth more than the report on them
            self._console.print(f"note the comparison could not be written ({type(error).__name__}: {error})")


def refuse_taken(folder: Path, master: DictConfig) -> None:
    """Raises UserError: when the folder holds another sweep, or another process is running this one."""
    if master.resume_sweep is None and (folder / LEDGER_FILE).exists():
        raise UserError(f"hydra.sweep.dir: {folder} holds a sweep already; go on with it by {RESUME}{folder}.")
    if master.resume_sweep is None and (taken := numbered(folder)):
        raise UserError(f"hydra.sweep.dir: {folder} holds other runs ({min(taken)}, ...); choose another folder.")
    if not is_free(folder):
        raise _busy(folder)


def _busy(folder: Path) -> UserError:
    return UserError(f"{folder}: another process is running this sweep; wait for it or stop it.")


def _axes(master: DictConfig, jobs: Sequence[PlannedJob]) -> dict[str, list[str]]:
    """Keys that the sweep varies with their values; of a search the ranges as they were typed."""
    found = axes_of([[readable(override) for override in job.overrides] for job in jobs])
    ranges = OmegaConf.to_container(master.hydra.sweeper.get("params") or OmegaConf.create({}))
    assert isinstance(ranges, dict)
    return {str(key): [str(value)] for key, value in ranges.items() if len(jobs) == 1} | found


def _maximises(master: DictConfig, jobs: Sequence[PlannedJob]) -> bool:
    """Whether more of the jobs' objective is better: as a search was told, or by the metric's name."""
    from adapter_exp.sweep.search import direction_of

    told = master.hydra.sweeper.get("direction", "auto")
    return (direction_of("/".join(jobs[0].config.objective)) if told == "auto" else str(told)) == "maximize"


def _returned(job: PlannedJob, objective: float | None) -> JobReturn:
    result = JobReturn(overrides=list(job.overrides), status=JobStatus.COMPLETED)
    result.return_value = NO_OBJECTIVE if objective is None else objective
    return result
