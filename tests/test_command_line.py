"""The entrypoint in processes of its own: exit codes, streams, and what the quick commands import."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
HEAVY = (
    *("torch", "transformers", "peft", "mlflow", "datasets", "bitsandbytes", "matplotlib", "pydantic", "numpy"),
    *("scipy", "statsmodels", "optuna", "joblib", "ray", "submitit"),
)

# What the console script does, and then the names of all imported packages.
CONSOLE_SCRIPT = """
import atexit, sys
atexit.register(lambda: print("IMPORTED", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr))
sys.argv[0] = "adapter-exp"
from adapter_exp.run import main
main()
"""


def run(*arguments: str, cwd: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def imported(finished: subprocess.CompletedProcess[str]) -> set[str]:
    [line] = [line for line in finished.stderr.splitlines() if line.startswith("IMPORTED ")]
    return set(line.split()[1:])


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--cfg", "job"], "double_quant: true"),
        (["--info", "defaults"], "quantization/nf4"),
        (["--help"], "Configuration groups"),
    ],
    ids=["cfg", "info", "help"],
)
def test_quick_commands_import_nothing_heavy(arguments: list[str], shown: str):
    finished = run("-c", CONSOLE_SCRIPT, *arguments)
    assert finished.returncode == 0, finished.stderr
    assert shown in finished.stdout
    assert imported(finished).isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("adapter-exp adapter=l", {"adapter=lora", "adapter=lora_mlp"}),
        ("adapter-exp adapter=mlp adapter.hid", {"adapter.hidden_dim="}),
        ("adapter-exp trainer.learn", {"trainer.learning_rate="}),
    ],
)
def test_the_shell_completes_groups_and_keys(line: str, completions: set[str]):
    finished = run("-c", CONSOLE_SCRIPT, "-sc", "query=bash", COMP_LINE=line)
    assert finished.returncode == 0, finished.stderr
    assert set(finished.stdout.split()) == completions
    assert imported(finished).isdisjoint(HEAVY)


def test_the_console_script_is_the_entrypoint():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"adapter-exp": "adapter_exp.run:main"}


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (
            ["adapter.r=0", "device=gpu", "model=hub"],
            [
                "error: model.id: is missing; give it a value (model.id=...).",
                "error: adapter.r: 0 is too small; use a whole number, at least 1.",
                "error: device: 'gpu' does not fit; use auto, cpu, cuda or cuda:N.",
            ],
        ),
        (
            ["sed=1", "seed=-1", "hydra.job.name=x"],
            [
                "error: seed: -1 is too small; use a whole number, at least 0 and below 4294967296.",
                "error: sed: unknown key. Did you mean seed or speed? Known keys here: adapter, cache_dir, device, "
                "eval, isolate, lang, model, output_dir, quantization, resume, resume_sweep, seed, speed, task, "
                "tracking, trainer.",
            ],
        ),
        (["adapter=null"], ["error: adapter=null: a group takes a name, as in adapter=lora."]),
    ],
)
def test_bad_input_ends_in_its_lines_and_nothing_else(tmp_path: Path, overrides: list[str], lines: list[str]):
    finished = run("-m", "adapter_exp.run", *overrides, cwd=tmp_path)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.splitlines() == lines
    assert list(tmp_path.glob("outputs/*")) == []


def test_the_folder_of_another_run_outlives_bad_input(tmp_path: Path):
    (tmp_path / "record.json").write_text("{}")
    finished = run("-m", "adapter_exp.run", "adapter.r=0", f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    assert finished.returncode == 2
    assert (tmp_path / "record.json").read_text() == "{}"


@pytest.mark.slow
def test_what_the_model_does_not_allow_is_told_before_a_run_is_made(tmp_path: Path):
    overrides = ["model=tiny", "adapter.layers=last:40", "model.max_length=4096", f"cache_dir={tmp_path / 'cache'}"]
    finished = run("-m", "adapter_exp.run", *overrides, "task.max_train=4", "device=cpu", cwd=tmp_path)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.splitlines() == [
        "error: adapter.layers: 'last:40' asks for 40 layers, but tiny has 4. Use last:4 or fewer, every:N, a list, "
        "or all.",
        "error: model.max_length: 4096 is more than tiny's context of 1024 tokens.",
    ]
    assert list(tmp_path.glob("outputs/*")) == []


def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path: Path):
    (tmp_path / "outputs").write_text("a file")
    finished = run("-m", "adapter_exp.run", "model=tiny", cwd=tmp_path)
    assert (finished.returncode, finished.stdout) == (2, "")
    [line] = finished.stderr.splitlines()
    assert "outputs" in line
    assert "cannot be written" in line


def test_a_sweep_tells_the_fault_of_a_job(tmp_path: Path):
    finished = run("-m", "adapter_exp.run", "-m", "adapter.r=0", "seed=0,1", cwd=tmp_path)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-1] == "error: adapter.r: 0 is too small; use a whole number, at least 1."
    assert "Traceback" not in finished.stderr
