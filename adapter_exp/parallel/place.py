"""Which of the processes of a run this one is, as its launcher says; imports no torch."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapter_exp.errors import UserError

HOW_TO_START = "accelerate launch --multi_gpu --num_processes N -m adapter_exp.run ... (on CPUs with device=cpu)"


@dataclass(frozen=True)
class Place:
    """One process among those of a run.

    Attributes:
        rank: its number; process 0 alone writes and speaks.
        size: how many there are.
        local_rank: its number on its machine, which is also its GPU's.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def own_place(environment: Mapping[str, str] = os.environ) -> Place:
    """This process's place by the variables that accelerate and torchrun set.

    Raises:
        UserError: if one of them is no number, or a launcher was asked for several processes and started only one.
    """
    if "WORLD_SIZE" not in environment:
        _refuse_lone_start(environment)
        return Place()
    values = {}
    for name, default in (("RANK", None), ("WORLD_SIZE", None), ("LOCAL_RANK", "0")):
        given = environment.get(name, default)
        if given is None or not given.isdecimal():
            raise UserError(f"{name}: '{given}' in the environment is no number; start with {HOW_TO_START}.")
        values[name] = int(given)
    if values["RANK"] >= values["WORLD_SIZE"]:
        raise UserError(f"RANK: {values['RANK']} in the environment is not below WORLD_SIZE={values['WORLD_SIZE']}.")
    return Place(values["RANK"], values["WORLD_SIZE"], values["LOCAL_RANK"])


def _refuse_lone_start(environment: Mapping[str, str]) -> None:
    """``accelerate launch --cpu --num_processes 2`` starts one process and leaves the rest to MPI."""
    if environment.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1") and "MASTER_PORT" in environment:
        raise UserError(
            f"accelerate launch --cpu: starts one process, however many are asked for; start with {HOW_TO_START}."
        )


def refuse_sweep() -> None:
    """Refuse a sweep in several processes of a launcher: its jobs would have to be divided, and each be shared.

    Raises:
        UserError: if this process is not alone.
    """
    if own_place().size > 1:
        raise UserError(
            "-m: a sweep's jobs run in one process each; start it without accelerate launch and choose hydra/launcher "
            "(joblib, ray, submitit_slurm), or launch single runs."
        )


@contextmanager
def helping(place: Place) -> Iterator[None]:
    """Let a process other than the first work in silence, in a folder that is thrown away; the first is left alone.

    The helpers run the same program as the first process, so that all meet at the same points; what they write goes
    nowhere.
    """
    if place.rank == 0:
        yield
        return
    folder = tempfile.mkdtemp(prefix="adapter_exp-")
    sys.argv.append(f"hydra.run.dir={folder}")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        nowhere = stack.enter_context(Path(os.devnull).open("w"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        stack.enter_context(contextlib.redirect_stderr(nowhere))
        yield
