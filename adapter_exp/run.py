"""The single entrypoint of experiments: parse, validate, run.

    python -m adapter_exp.run adapter=lora adapter.r=16 task=nerus

Only Hydra is imported at module level, so that ``--cfg job``, ``--info`` and completion answer at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from adapter_exp.files import conf_folder

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_CANCELLED = 130


# One name per process: Hydra asks several times, and the jobs of a sweep have folders of their own below it.
_RUN_NAME = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"
OmegaConf.register_new_resolver("run_name", lambda: _RUN_NAME, replace=True)


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def _job(config: DictConfig) -> None:
    try:
        _experiment(config)
    except (Exception, KeyboardInterrupt) as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise  # the other jobs of the sweep go on
        _end(error)  # here, because Hydra adds a line of its own to what it passes on


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

    run_experiment(parsed, run_dir)


def main() -> None:
    """Run the command line; exit code 0 ok, 1 failed, 2 bad input, 130 cancelled."""
    # Hydra otherwise prints several lines of its own and exits with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        _job()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever ended it is told in one line
        _end(error)


def _end(error: BaseException) -> NoReturn:
    """Tell what ended the program and exit; the traceback of a failed run is in its error.txt."""
    from adapter_exp.errors import Cancelled, UserError, unwritable
    from adapter_exp.hydra_faults import hydra_faults, is_hydra_fault

    if isinstance(error, UserError):
        _stop(error.faults, EXIT_USER_ERROR)
    if isinstance(error, Cancelled | KeyboardInterrupt):
        print("cancelled", file=sys.stderr)  # noqa: T201 - the terminal is the interface
        sys.exit(EXIT_CANCELLED)
    if is_hydra_fault(error):
        _stop(hydra_faults(error, sys.argv[1:]), EXIT_USER_ERROR)
    if isinstance(error, OSError) and (told := unwritable(error)):
        _stop([told], EXIT_USER_ERROR)
    _stop(f"{type(error).__name__}: {error}".splitlines(), EXIT_FAILED)


def _stop(lines: Sequence[str], code: int) -> NoReturn:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)  # noqa: T201 - the terminal is the interface
    sys.exit(code)


if __name__ == "__main__":
    main()
