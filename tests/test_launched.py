"""One run in two processes, started by accelerate as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from experiment_samples import overrides, record, start
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

FEW = ("trainer.batch_size=2", "task.max_train=9", "task.max_validation=3", "adapter.dropout=0", "trainer.epochs=2")
ALONE = ("trainer.batch_size=4", *FEW[1:])


def launch(root: Path, *more: str, flags: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """``accelerate launch`` of the small experiment in two processes on the CPU."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    launcher = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
    launcher += ["--dynamo_backend", "no", "--main_process_port", port]
    command = [sys.executable, "-m", "accelerate.commands.launch", *launcher, "-m", "adapter_exp.run"]
    return subprocess.Popen(
        [*command, *flags, *overrides(root, *more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "COLUMNS": "200"},
        cwd=Path(__file__).parents[1],
    )


def only_run(root: Path) -> Path:
    """The one folder that was made; the second process leaves nothing there."""
    (folder,) = (root / "outputs").iterdir()
    return folder


def exit_codes(errors: str) -> list[str]:
    """What the launcher reports of each process."""
    return [line.split(":")[1].split()[0] for line in errors.splitlines() if line.strip().startswith("exitcode")]


def errors_told(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if line.startswith(("error: ", "cancelled"))]


def adapter(folder: Path) -> dict[str, Any]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """Folders of a run in two processes and of one alone, and what the first printed."""
    root = tmp_path_factory.mktemp("launched")
    launched = launch(root, *FEW)
    printed, errors = launched.communicate(timeout=280)
    assert launched.returncode == 0, errors
    two = only_run(root)
    alone = start(root, *ALONE, f"hydra.run.dir={root}/alone")
    _, errors = alone.communicate(timeout=280)
    assert alone.returncode == 0, errors
    return two, root / "alone", printed


@pytest.mark.timeout(600)
def test_two_processes_make_the_run_that_one_makes(both):
    two, alone, printed = both
    found, wanted = record(two), record(alone)
    assert found["host"]["processes"] == 2
    for curve in ("loss", "validation_loss"):
        for one, other in zip(found["training"][curve], wanted["training"][curve], strict=True):
            assert one["step"] == other["step"]
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
    weights = adapter(alone)
    assert all(float((value - weights[name]).abs().max()) < 1e-5 for name, value in adapter(two).items())
    for model in ("base", "adapted", "change"):
        assert found["evaluation"][model] == wanted["evaluation"][model]
    assert found["validation"] == wanted["validation"]
    for file in sorted((alone / "predictions").iterdir()):
        rows = [[json.loads(line) for line in (run / "predictions" / file.name).open()] for run in (two, alone)]
        assert [row["id"] for row in rows[0]] == [row["id"] for row in rows[1]]
        assert [row["response"] for row in rows[0]] == [row["response"] for row in rows[1]]
    assert printed.count("parameters  ") == 1  # one summary, not two


@pytest.mark.timeout(600)
def test_a_stopped_run_ends_alike_in_all_processes_and_goes_on(tmp_path):
    process = launch(tmp_path, *FEW, "trainer.epochs=400", "trainer.logging_steps=1")
    until = time.monotonic() + 240
    while time.monotonic() < until and not list(tmp_path.glob("outputs/*/checkpoints/step-*")):
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    folder = only_run(tmp_path)
    assert process.returncode != 0
    assert errors_told(errors) == ["cancelled"], errors
    assert record(folder)["status"] == "cancelled"
    assert {file.name for file in sorted(folder.glob("checkpoints/step-*"))[-1].glob("rng_state*")} == {
        "rng_state_0.pth",
        "rng_state_1.pth",
    }
    alone = start(tmp_path, *FEW, "trainer.epochs=400", "resume=auto")
    _, errors = alone.communicate(timeout=280)
    assert alone.returncode == 2
    assert "was trained by 2 processes, this run has 1" in errors


@pytest.mark.timeout(600)
def test_bad_input_is_told_once_and_ends_all_processes_alike(tmp_path):
    for flags, fault, told in (
        ((), "adapter.layers=last:99", "error: adapter.layers: 'last:99' asks for 99 layers"),
        (("-m",), "adapter.r=1,2", "error: -m: a sweep's jobs run in one process each"),
    ):
        process = launch(tmp_path, fault, flags=flags)
        _, errors = process.communicate(timeout=280)
        assert len(errors_told(errors)) == 1, errors
        assert errors_told(errors)[0].startswith(told)
        assert exit_codes(errors) == ["2", "2"]
        assert not list(tmp_path.glob("outputs/*"))
