"""The single entrypoint of experiments: parse, validate, run.

    python -m adapter_exp.run adapter=lora adapter.r=16 task=nerus
    python -m adapter_exp.run -m adapter=lora adapter.r=4,8,16 seed=0,1,2

Only Hydra is imported at module level, so that ``--cfg job``, ``--info`` and completion answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from adapter_exp.errors import UserError
from adapter_exp.files import conf_folder
from adapter_exp.parallel.place import helping, own_place
from adapter_exp.parallel.world import current_world, together
from adapter_exp.resolvers import sweep_folder
from adapter_exp.training.cancel import Cancellation

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_CANCELLED = 130


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def _job(config: DictConfig) -> None:
    """One run; the jobs of a sweep are started by its launcher, see ``hydra_plugins``."""
    try:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            _refuse_launcher(str(HydraConfig.get().runtime.choices.get("hydra/launcher")))
        _experiment(config)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever ended it is told in one line
        _end(error)  # here, because Hydra adds a line of its own to what it passes on


def _refuse_launcher(name: str) -> NoReturn:
    """A launcher that is not configured here would run jobs without the sweep's ledger."""
    from adapter_exp.hydra_faults import unknown_choice

    raise UserError(unknown_choice("hydra/launcher", name, ()))


def _experiment(config: DictConfig) -> None:
    from adapter_exp.config import parse_config
    from adapter_exp.resume import remove_unused

    run_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        values: Any = OmegaConf.to_container(config, resolve=True)
        parsed = parse_config(values)
    except BaseException:
        remove_unused(run_dir)
        raise
    from adapter_exp.experiment import run_experiment

    run_experiment(parsed, run_dir, world=current_world())


def main() -> None:
    """Run the command line; exit code 0 ok, 1 failed (of a sweep: any job), 2 bad input, 130 cancelled."""
    # Hydra otherwise prints several lines of its own and exits with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        place = own_place()
    except UserError as error:
        _end(error)
    with helping(place):
        try:
            with together(place):
                _run()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever ended it is told in one line
            _end(error)


def _run() -> NoReturn:
    with Cancellation().listening():  # SIGTERM does what Ctrl-C does, also between two jobs
        try:
            ended_by = _ended_by()
            every_job_ok = _close_sweep(ended_by)
        except KeyboardInterrupt as error:  # while the sweep's comparison was written
            _end(error)
    if ended_by is not None:
        from adapter_exp.resume import remove_unused

        remove_unused(Path(sweep_folder()))  # Hydra makes it before the jobs are checked
        _end(ended_by)
    sys.exit(0 if every_job_ok else EXIT_FAILED)


def _ended_by() -> BaseException | None:
    """Run Hydra on the command line; what ended it early, if anything."""
    try:
        if any(argument.startswith("resume_sweep=") for argument in sys.argv):
            from adapter_exp.sweep.arguments import resumed_arguments

            sys.argv[1:] = resumed_arguments(sys.argv[1:])
        _job()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever ended it is told in one line
        return error
    return None


def _close_sweep(ended_by: BaseException | None) -> bool:
    """End the sweep that this command ran, if it did; whether all of its jobs went well."""
    module = sys.modules.get("adapter_exp.sweep.sweep")
    return True if module is None else bool(module.close_current(ended_by))


def _end(error: BaseException) -> NoReturn:
    """Tell what ended the program and exit; the traceback of a failed run is in its error.txt."""
    from adapter_exp.errors import Cancelled, unwritable
    from adapter_exp.hydra_faults import hydra_faults, is_hydra_fault

    if isinstance(error, UserError):
        _stop(error.faults, EXIT_USER_ERROR, error)
    if isinstance(error, Cancelled | KeyboardInterrupt):
        print("cancelled", file=sys.stderr)  # noqa: T201 - the terminal is the interface
        raise SystemExit(EXIT_CANCELLED) from error
    if is_hydra_fault(error):
        _stop(hydra_faults(error, sys.argv[1:]), EXIT_USER_ERROR, error)
    if isinstance(error, OSError) and (told := unwritable(error)):
        _stop([told], EXIT_USER_ERROR, error)
    _stop(f"{type(error).__name__}: {error}".splitlines(), EXIT_FAILED, error)


def _stop(lines: Sequence[str], code: int, error: BaseException) -> NoReturn:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)  # noqa: T201 - the terminal is the interface
    raise SystemExit(code) from error  # its cause is what other processes of this run are told


if __name__ == "__main__":
    main()
