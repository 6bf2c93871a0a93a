"""Two processes on half a batch each train the adapter that one process trains on the whole batch."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from adapters.cases import load_tiny
from training.parallel_cases import CASES, STOP_AT, train_case
from training_samples import Trained, run, settings

from adapter_exp.errors import UserError
from adapter_exp.parallel.place import Place, own_place
from adapter_exp.parallel.world import ALONE
from adapter_exp.training.batches import BucketSampler, RankBatches

pytestmark = pytest.mark.timeout(900)  # two processes start and train side by side

SCRIPT = Path(__file__).with_name("parallel_cases.py")
LOSS_TOLERANCE = 1e-6  # relative
WEIGHT_TOLERANCE = 1e-5


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return str(probe.getsockname()[1])


def in_two_processes(what: str, *arguments: str, folder: Path) -> list[dict[str, Any]]:
    """What each of two processes wrote down."""
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": free_port(), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), what, *arguments, str(folder)],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": str(Path.cwd())},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=800)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    return [pickle.loads((folder / f"{what}-{rank}.pickle").read_bytes()) for rank in range(2)]


def starts_at_zero(name: str) -> bool:
    return "lora_B" in name or "bottleneck_up" in name


@pytest.fixture(scope="module")
def trained(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """By process, the results of all trainings."""
    return in_two_processes("trainings", str(tiny_folder), folder=tmp_path_factory.mktemp("two"))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_processes_train_what_one_does(trained, tiny_folder, tmp_path, case, one_thread):
    alone = train_case(load_tiny(tiny_folder), tmp_path, case, ALONE)
    first, second = (results[str(case)] for results in trained)
    assert alone.result is not None
    assert len(alone.result.loss) >= 2
    for curve in ("loss", "validation_loss"):
        assert getattr(first.result, curve) == getattr(second.result, curve)
        found, wanted = (torch.tensor(getattr(run.result, curve)) for run in (first, alone))
        assert torch.allclose(found, wanted, rtol=LOSS_TOLERANCE, atol=0)
    assert first.same_weights(second)
    assert max(float(weights.abs().max()) for name, weights in first.weights.items() if starts_at_zero(name)) > 1e-3
    assert first.furthest(alone) < WEIGHT_TOLERANCE
    assert (first.result.tokens, first.result.steps) == (alone.result.tokens, alone.result.steps)


@pytest.mark.slow
def test_a_stop_in_one_process_stops_all_at_the_same_step_and_training_goes_on_as_if_never_stopped(trained):
    for results in trained:
        assert results["stopped"] == f"training saved at step {STOP_AT}"
        straight, resumed = results["straight"], results["resumed"]
        assert isinstance(straight, Trained)
        assert straight.result.loss == resumed.result.loss
        assert straight.same_weights(resumed)  # with dropout: each process has its own random states again


@pytest.mark.slow
def test_adapters_that_differ_at_the_start_are_refused(trained):
    assert all("the adapter differs among the processes" in results["other start"] for results in trained)


@pytest.mark.slow
def test_a_checkpoint_of_another_number_of_processes_is_refused(trained, tiny_folder, tmp_path):
    with pytest.raises(UserError, match="was trained by 2 processes, this run has 1; start as many again"):
        run(load_tiny(tiny_folder), tmp_path, settings(), resume_from=trained[0]["checkpoint"])


@pytest.mark.slow
def test_processes_that_only_accelerate_knows_of_are_refused(trained):
    assert all("the launcher started 2 processes in a way that is not" in results["lone"] for results in trained)


@pytest.mark.slow
def test_all_processes_end_as_the_first_to_end(tmp_path):
    first, second = in_two_processes("ends", free_port(), free_port(), free_port(), folder=tmp_path)
    assert first["user"][:2] == second["user"][:2] == ("UserError", "trainer.x: '1' is bad.\nseed: '2' is bad.")
    assert first["stop"][0] == second["stop"][0] == "Cancelled"
    assert second["fault"][0] == "ValueError"
    assert first["fault"][:2] == ("PeerFailed", "process 1: ValueError: the disk is on fire")
    assert "parallel_cases.py" in first["fault"][2][0]  # the traceback, for error.txt


@pytest.mark.parametrize(("rows", "size"), [(17, 2), (13, 2), (10, 3), (2, 4)])
def test_every_row_falls_to_one_process(rows, size):
    sampler = BucketSampler(list(range(5, 5 + rows)), batch_size=2 * size, seed=1, buckets=True)
    parts = [list(RankBatches(sampler, rank=rank, size=size)) for rank in range(size)]
    assert len({len(part) for part in parts}) == 1
    assert len(parts[0]) == len(RankBatches(sampler, rank=0, size=size)) == len(sampler.batches(0))
    assert sorted(row for part in parts for batch in part for row in batch) == list(range(rows))
    assert all(len(batch) <= 2 for part in parts for batch in part)


def test_shares_come_back_in_order():
    assert ALONE.joined(ALONE.shared("abcde")) == list("abcde")


def test_a_place_is_read_from_the_environment():
    assert own_place({}) == Place(0, 1, 0)
    assert own_place({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == Place(3, 4, 1)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK: 'x' in the environment is no number"),
        ({"WORLD_SIZE": "2"}, "RANK: 'None' in the environment is no number"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK: 2 in the environment is not below WORLD_SIZE=2"),
        ({"ACCELERATE_USE_CPU": "True", "MASTER_PORT": "1"}, "accelerate launch --cpu: starts one process"),
    ],
)
def test_a_wrong_start_is_told_in_one_line(environment, told):
    with pytest.raises(UserError, match=told) as caught:
        own_place(environment)
    assert len(caught.value.faults) == 1
