"""Whole sweeps through the command line: what is shared, what survives, what is told."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment_samples import config
from sweep_samples import Swept, command, numbers, sweep

from adapter_exp import experiment
from adapter_exp.config import Config
from adapter_exp.evaluation.predictions import read_predictions
from adapter_exp.experiment import run_experiment
from adapter_exp.files import sha256_file
from adapter_exp.models.base import load_base
from adapter_exp.sweep.job import run_job
from adapter_exp.sweep.ledger import Ledger

pytestmark = pytest.mark.usefixtures("one_thread")

DIVERGES = ("trainer.learning_rate=1.0", "trainer.max_grad_norm=0.0", "trainer.epochs=2")


def answers(run_dir: Path) -> dict[str, list[Any]]:
    """What the models answered, without how long they took."""
    return {
        file.name: [(row.item_hash, row.prompt_hash, row.response, row.logprobs) for row in read_predictions(file)]
        for file in sorted((run_dir / "predictions").glob("*.jsonl"))
    }


def adapter_hash(run_dir: Path) -> str:
    return sha256_file(run_dir / "adapter" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Swept, int]]:
    """A sweep of two kinds and two seeds with dropout, and how often a base was loaded for it."""
    root = tmp_path_factory.mktemp("swept")
    loads = 0
    with pytest.MonkeyPatch.context() as patch:
        from adapter_exp.models import base

        load = base._load

        def counted(request: Any) -> Any:
            nonlocal loads
            loads += 1
            return load(request)

        base.release_base()
        patch.setattr(base, "_load", counted)
        result = sweep(root, "adapter=lora,mlp", "adapter.dropout=0.1", "seed=0,1", monkeypatch=patch)
    yield root, result, loads


def test_every_job_ends_well_and_one_base_serves_all(swept: tuple[Path, Swept, int]) -> None:
    _, result, loads = swept
    assert (result.exit_code, result.errors) == (0, "")
    assert [(job.number, job.state, job.attempts) for job in result.jobs] == [(n, "ok", 1) for n in range(4)]
    assert loads == 1
    kinds = [(result.record(n)["config"]["adapter"]["kind"], result.record(n)["seed"]) for n in range(4)]
    assert kinds == [("lora", 0), ("lora", 1), ("mlp", 0), ("mlp", 1)]


def test_the_base_is_scored_once(swept: tuple[Path, Swept, int]) -> None:
    _, result, _ = swept
    known = [result.record(n)["evaluation"]["base_from_cache"] for n in range(4)]
    assert known == [{"nerus": False, "terra": False}] + 3 * [{"nerus": True, "terra": True}]


@pytest.mark.parametrize("number", [1, 2])
def test_a_job_gives_the_numbers_of_the_same_run_alone(
    swept: tuple[Path, Swept, int], number: int, tmp_path: Path
) -> None:
    _, result, _ = swept
    job = result.record(number)
    kind, seed = job["config"]["adapter"]["kind"], job["seed"]
    alone = tmp_path / "outputs" / "alone"
    data = run_experiment(config(tmp_path, f"adapter={kind}", "adapter.dropout=0.1", f"seed={seed}"), alone)
    assert data["evaluation"]["base_from_cache"] == {"nerus": False, "terra": False}
    assert numbers(json.loads(json.dumps(data))) == numbers(job)
    assert answers(alone) == answers(result.folder / str(number))
    assert adapter_hash(alone) == adapter_hash(result.folder / str(number))


def test_a_finished_sweep_does_nothing_again(swept: tuple[Path, Swept, int], monkeypatch: pytest.MonkeyPatch) -> None:
    root, result, _ = swept
    monkeypatch.setattr(experiment, "run_experiment", None)  # a call would fail
    again = sweep(
        root,
        "adapter=lora,mlp",
        "adapter.dropout=0.1",
        "seed=0,1",
        f"resume_sweep={result.folder}",
        monkeypatch=monkeypatch,
    )
    assert (again.exit_code, [job.attempts for job in again.jobs]) == (0, [1, 1, 1, 1])


def test_a_sweep_that_was_moved_and_damaged_goes_on(
    swept: tuple[Path, Swept, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, result, _ = swept
    moved = Path(shutil.copytree(result.folder, tmp_path / "the sweep, moved"))
    record = moved / "3" / "record.json"
    record.write_bytes(record.read_bytes()[:1000])
    again = command([f"resume_sweep={moved}", "eval.objective=nerus/macro_f1"], moved, monkeypatch)
    assert again.exit_code == 0
    assert [(job.state, job.attempts) for job in again.jobs] == [("ok", 1), ("ok", 1), ("ok", 1), ("ok", 2)]
    assert numbers(again.record(3)) == numbers(result.record(3))
    values = [again.record(n)["validation"]["adapted"]["nerus"]["macro_f1"]["value"] for n in range(4)]
    assert [job.objective for job in again.jobs] == values
    assert [job.attempts for job in result.jobs] == [1, 1, 1, 1]  # the sweep it was copied from is left alone


def test_a_sweep_without_its_ledger_takes_no_other_runs_folder(
    swept: tuple[Path, Swept, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, result, _ = swept
    folder = Path(shutil.copytree(result.folder, tmp_path / "sweep"))
    (folder / "ledger.jsonl").unlink()
    refused = sweep(tmp_path, "seed=1,0", monkeypatch=monkeypatch)
    assert refused.exit_code == 2
    assert "holds other runs (0, ...)" in refused.errors

    for attempt in range(2):

        def fail(*_: Any, told: str = f"attempt {attempt}", **__: Any) -> None:
            raise RuntimeError(told)

        monkeypatch.setattr(experiment, "run_experiment", fail)
        again = command([f"resume_sweep={folder}", "seed=1,0"], folder, monkeypatch)
        assert [(job.number, job.state) for job in again.jobs] == [(number, "failed") for number in range(4, 8)]
        assert f"attempt {attempt}" in (folder / "4" / "error.txt").read_text(encoding="utf-8")


def test_a_job_that_another_process_has_ended_meanwhile_is_not_run_again(
    swept: tuple[Path, Swept, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, result, _ = swept
    folder = Path(shutil.copytree(result.folder, tmp_path / "sweep"))
    monkeypatch.setattr(experiment, "run_experiment", None)  # a call would fail
    ended = run_job(Config.model_validate(result.record(1)["config"]), folder / "1", folder)
    job = Ledger(folder).jobs()[1]
    assert (ended.state, job.state, job.attempts) == ("ok", "ok", 1)
    assert ended.objective == job.objective == result.jobs[1].objective


def test_a_longer_sweep_in_the_same_folder_runs_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sweep(tmp_path, "seed=1,2", monkeypatch=monkeypatch)
    more = sweep(tmp_path, "seed=0,1,2,0", f"resume_sweep={first.folder}", monkeypatch=monkeypatch)
    assert more.exit_code == 0
    assert [(job.number, job.attempts) for job in Swept(first.folder, 0, "", "").jobs] == [(0, 1), (1, 1), (2, 1)]
    assert [first.record(n)["seed"] for n in range(3)] == [1, 2, 0]


def test_a_job_that_diverges_takes_no_other_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sweep(tmp_path, *DIVERGES, "adapter.alpha=8,1e38", "seed=0,1", monkeypatch=monkeypatch)
    assert result.exit_code == 1
    assert [job.state for job in result.jobs] == ["ok", "ok", "failed", "failed"]
    error = result.jobs[2].error or ""
    assert error.startswith("TrainingDiverged: the loss is nan at step")
    assert "TrainingDiverged" in (result.folder / "2" / "error.txt").read_text(encoding="utf-8")
    assert result.record(2)["status"] == "failed"
    assert "TrainingDiverged" in result.output  # the summary names it


def test_failed_jobs_are_run_again_and_finished_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attach = experiment.attach
    failing = True

    def sometimes(*args: Any, **kwargs: Any) -> Any:
        attached = attach(*args, **kwargs)
        if failing and attached.spec.r == 3:
            raise MemoryError("no room for r=3")  # with the adapter still on the base
        return attached

    monkeypatch.setattr(experiment, "attach", sometimes)
    first = sweep(tmp_path, "adapter.r=3,2", monkeypatch=monkeypatch)
    assert (first.exit_code, [job.state for job in first.jobs]) == (1, ["oom", "ok"])
    failing = False
    again = command([f"resume_sweep={first.folder}"], first.folder, monkeypatch)  # the former arguments are known
    assert (again.exit_code, [(job.state, job.attempts) for job in again.jobs]) == (0, [("ok", 2), ("ok", 1)])


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score = experiment.score_adapted
    calls = 0

    def interrupted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return score(*args)

    monkeypatch.setattr(experiment, "score_adapted", interrupted)
    first = sweep(tmp_path, "seed=0,1,2", monkeypatch=monkeypatch)
    assert (first.exit_code, [job.state for job in first.jobs]) == (130, ["ok", "cancelled", "queued"])
    again = command([f"resume_sweep={first.folder}"], first.folder, monkeypatch)
    assert again.exit_code == 0
    assert [(job.state, job.attempts) for job in again.jobs] == [("ok", 1), ("ok", 2), ("ok", 1)]


def test_equal_configurations_are_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sweep(tmp_path, "seed=0,0", monkeypatch=monkeypatch)
    assert (result.exit_code, len(result.jobs)) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("adapter.r=2,0",), "error: job adapter.r=0: adapter.r: 0 is too small; use a whole number, at least 1."),
        (("seed=0,1", "adapter.r=0"), "error: adapter.r: 0 is too small; use a whole number, at least 1."),
        (
            ("adapter.layers=all,last:9",),
            "error: job adapter.layers=last:9: adapter.layers: 'last:9' asks for 9 layers",
        ),
        (("task.path=nowhere.gz,null",), "error: job task.path=nowhere.gz: "),
        (("seed=0,1", "eval.objective=nerus/f1"), "error: eval.objective: 'nerus/f1' is not measured on validation."),
        (("seed=0,1", "isolate=thread"), "error: isolate: 'thread' is unknown. Use one of: none, process."),
    ],
)
def test_bad_input_is_told_before_the_first_job(
    arguments: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = sweep(tmp_path, *arguments, monkeypatch=monkeypatch)
    assert result.exit_code == 2
    assert [line[: len(told)] for line in result.errors.splitlines()] == [told]
    assert not result.folder.exists()


def test_no_such_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = command([f"resume_sweep={tmp_path / 'gone'}"], tmp_path, monkeypatch)
    assert (result.exit_code, result.errors.count("\n")) == (2, 1)
    assert "is not the folder of a sweep" in result.errors


def test_another_sweep_keeps_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep(tmp_path, "seed=0,1", monkeypatch=monkeypatch)
    other = sweep(tmp_path, "seed=2,3", monkeypatch=monkeypatch)
    assert other.exit_code == 2
    assert "holds a sweep already" in other.errors


def test_the_base_stays_as_it_was_loaded(tmp_path: Path) -> None:
    settings = config(tmp_path)
    base = load_base(settings.model, settings.quantization, cache_dir=tmp_path / "cache", device="cpu")
    with torch.no_grad():
        next(base.model.parameters()).view(-1)[0] += 1
    with pytest.raises(RuntimeError, match="not those that were loaded"):
        run_experiment(settings, tmp_path / "outputs" / "changed")
    run_experiment(settings, tmp_path / "outputs" / "fresh")  # the changed base was let go of
