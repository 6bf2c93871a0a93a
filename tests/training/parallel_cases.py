"""What one of two processes does in ``test_parallel.py``: runs the cases it is told and writes down what came of them.

RANK=0 WORLD_SIZE=2 MASTER_ADDR=localhost MASTER_PORT=... python parallel_cases.py trainings MODEL FOLDER
"""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from training_samples import PAD, Trained, rows, run, settings

from adapter_exp.adapters.specs import AdapterSpec, LoraSpec, MlpSpec
from adapter_exp.engine.packed import PackedCollator
from adapter_exp.errors import Cancelled, UserError
from adapter_exp.parallel.place import own_place
from adapter_exp.parallel.world import ALONE, World, together
from adapter_exp.training.batches import Collate, Collator
from adapter_exp.training.cancel import Cancellation
from adapter_exp.training.checkpoints import newest_checkpoint

SPECS: dict[str, AdapterSpec] = {"lora": LoraSpec(r=4, alpha=8), "mlp": MlpSpec(hidden_dim=8, layers="last:2")}
BATCH = 8
"""Rows of a batch over all processes."""
# 17 rows: the last batch has one, so the second process gets none of it. 13 rows: it has five, three and two.
CASES = [
    (kind, packed, accumulation, count)
    for kind, accumulation, count in (("lora", 1, 17), ("lora", 2, 17), ("mlp", 1, 13), ("mlp", 2, 17))
    for packed in (False, True)
]
DROPPING = LoraSpec(r=4, alpha=8, dropout=0.1)
STOP_AT = 2
ENDS: dict[str, BaseException] = {
    "user": UserError("trainer.x: '1' is bad.", "seed: '2' is bad."),
    "stop": Cancelled("SIGTERM"),
    "fault": ValueError("the disk is on fire"),
}


def train_case(model: Any, folder: Path, case: tuple[str, bool, int, int], world: World) -> Trained:
    """One small training of ``BATCH`` rows at a time, however many processes do it."""
    kind, packed, accumulation, count = case
    collate: Collate = PackedCollator(share_prefix=True) if packed else Collator(PAD)
    return run(
        model,
        folder,
        settings(batch_size=BATCH // world.size, gradient_accumulation_steps=accumulation, learning_rate=2e-3),
        spec=SPECS[kind],
        train_rows=shared_start(rows(count)),
        validation_rows=shared_start(rows(7, seed=1)),
        collate=collate,
        world=world,
    )


def shared_start(made: list[Any]) -> list[Any]:
    """The rows with the same four tokens before each."""
    return [type(row)([5, 6, 7, 8, *row.ids], row.prompt_tokens + 4, row.truncated) for row in made]


def train_dropping(model: Any, folder: Path, world: World, *, stop: bool = False, resume: bool = False) -> Trained:
    """A training with dropout, of which the last process can be asked to stop."""
    cancellation = Cancellation()

    def ask(report: Any) -> None:
        cancellation.requested = stop and world.rank == world.size - 1 and report.step >= STOP_AT - 1

    checkpoint = world.from_first(lambda: newest_checkpoint(folder)) if resume else None
    config = settings(batch_size=2, save_steps=3)
    return run(
        model,
        folder,
        config,
        spec=DROPPING,
        train_rows=rows(17),
        world=world,
        cancellation=cancellation,
        on_step=ask,
        resume_from=checkpoint,
    )


def trainings(world: World, model_folder: str, folder: Path) -> dict[str, Any]:
    """Results of all cases, of a straight run with dropout and of one that was stopped and went on."""
    from adapters.cases import load_tiny

    model = load_tiny(Path(model_folder))
    results: dict[str, Any] = {
        str(case): train_case(model, folder / f"case-{i}", case, world) for i, case in enumerate(CASES)
    }
    straight, stopped = folder / "straight", folder / "stopped"
    results["straight"] = train_dropping(model, straight, world)
    try:
        train_dropping(model, stopped, world, stop=True)
    except Cancelled as error:
        results["stopped"] = str(error)
    # The other processes have no folder that anybody sees: only the first one wrote the checkpoint.
    torch.manual_seed(99)
    results["resumed"] = train_dropping(model, stopped, world, resume=True)
    torch.manual_seed(world.rank)
    try:
        own_seed = run(model, folder / "differ", settings(), world=world, seed=world.rank)
    except RuntimeError as error:
        own_seed = str(error)
    results["other start"] = own_seed
    results["checkpoint"] = newest_checkpoint(straight)
    try:
        run(model, folder / "lone", settings())
    except UserError as error:
        results["lone"] = str(error)
    return results


def ends(ports: list[str]) -> dict[str, Any]:
    """How each process ended where the second one raised an error and the first waited for it."""
    found: dict[str, Any] = {}
    for port, (name, error) in zip(ports, ENDS.items(), strict=True):
        os.environ["MASTER_PORT"] = port
        try:
            with together(own_place()) as world:
                if world.rank == 1:
                    raise error
                world.meet()
        except BaseException as caught:  # noqa: BLE001 - what it was is the result
            found[name] = type(caught).__name__, str(caught), getattr(caught, "__notes__", [])
    return found


def main(what: str, *arguments: str) -> None:
    """Run the cases ``what`` and write their results beside those of the other processes."""
    torch.set_num_threads(1)
    *more, folder = arguments
    place = own_place()
    if what == "ends":
        results = ends(more)
    else:
        with together(place) as world:
            assert world is not ALONE
            results = trainings(world, more[0], Path(folder))
    (Path(folder) / f"{what}-{place.rank}.pickle").write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
