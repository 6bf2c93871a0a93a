"""The single entrypoint of experiments: parse, validate, run.

    python -m adapter_exp.run adapter=lora adapter.r=16 task=nerus

Only Hydra is imported at module level, so that ``--cfg job``, ``--info`` and completion answer at once.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

EXIT_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_CANCELLED = 130


def conf_folder() -> Path:
    """The configuration groups: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


# One name per process: Hydra asks several times, and the jobs of a sweep have folders of their own below it.
_RUN_NAME = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"
OmegaConf.register_new_resolver("run_name", lambda: _RUN_NAME, replace=True)


@hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name="config")
def _job(config: DictConfig) -> None:
    from adapter_exp.config import parse_config
    from adapter_exp.experiment import run_experiment

    values: Any = OmegaConf.to_container(config, resolve=True)
    run_experiment(parse_config(values), Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    """Run the command line; exit code 0 ok, 1 failed, 2 bad input, 130 cancelled."""
    from hydra.errors import HydraException

    from adapter_exp.errors import Cancelled, UserError

    # Hydra otherwise prints several lines of its own and exits with 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        _job()
    except UserError as error:
        _stop(str(error), EXIT_USER_ERROR)
    except (HydraException, OmegaConfBaseException) as error:
        from adapter_exp.hydra_faults import hydra_fault

        _stop(hydra_fault(error), EXIT_USER_ERROR)
    except (Cancelled, KeyboardInterrupt):
        _stop("cancelled", EXIT_CANCELLED)
    except OSError as error:
        from adapter_exp.errors import unwritable

        _stop(
            unwritable(error) or f"{type(error).__name__}: {error}",
            EXIT_USER_ERROR if unwritable(error) else EXIT_FAILED,
        )
    except Exception as error:  # noqa: BLE001 - whatever ended the job: its traceback is in the run's error.txt
        _stop(f"{type(error).__name__}: {error}", EXIT_FAILED)


def _stop(message: str, code: int) -> None:
    for line in message.splitlines():
        print(f"error: {line}" if code != EXIT_CANCELLED else line, file=sys.stderr)  # noqa: T201 - the terminal is the interface
    sys.exit(code)


if __name__ == "__main__":
    main()
