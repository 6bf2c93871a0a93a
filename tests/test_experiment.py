"""Whole experiments on the tiny model: every adapter, the record, what lies on disk, how a failure ends."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from experiment_samples import config, record
from safetensors.torch import load_file

from adapter_exp.adapters import count_parameters
from adapter_exp.config import Config
from adapter_exp.errors import UserError
from adapter_exp.evaluation.predictions import read_predictions
from adapter_exp.experiment import run_experiment
from adapter_exp.files import sha256_file
from adapter_exp.models.base import load_base
from adapter_exp.models.shape import read_shape
from adapter_exp.models.weights import weights_sha256
from adapter_exp.preparation import adapter_spec
from adapter_exp.tasks.registry import build_task
from adapter_exp.tracking.record import load_record
from adapter_exp.training.flow import TrainingDiverged

KINDS = {
    "lora": ("adapter=lora", "adapter.r=4"),
    "mlp": ("adapter=mlp", "adapter.hidden_dim=8", "adapter.layers=last:2"),
    "lora_mlp": ("adapter=lora_mlp", "adapter.lora.r=4", "adapter.mlp.hidden_dim=8"),
    "full": ("adapter=full", "quantization=none"),
}
TASKS = ("nerus", "terra")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiments")


@pytest.fixture(scope="module")
def runs(root: Path) -> dict[str, tuple[Config, Path]]:
    """One finished run for each adapter, by kind."""
    found = {}
    for kind, more in KINDS.items():
        settings, folder = config(root, *more), root / "outputs" / kind
        run_experiment(settings, folder)
        found[kind] = settings, folder
    return found


def numbers(run_dir: Path) -> dict[str, Any]:
    """What two runs of one configuration must agree on."""
    data = record(run_dir)
    rows = {
        path.name: [{**json.loads(line), "milliseconds": 0} for line in path.read_text(encoding="utf-8").splitlines()]
        for path in sorted((run_dir / "predictions").iterdir())
    }
    weights = {
        path.name: sha256_file(path)
        for path in sorted((run_dir / "adapter").rglob("*"))
        if path.is_file() and path.name != "adapter_exp.json"
    }
    timed = ("tokens_per_s",)
    training = {key: value for key, value in data["training"].items() if key not in timed}
    del data["evaluation"]["base_from_cache"]  # the second of two runs need not ask the base again
    return {key: data[key] for key in ("evaluation", "validation", "gates", "data")} | {
        "rows": rows,
        "weights": weights,
        "training": training,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_holds_the_keys_that_tools_rely_on(runs, kind):
    settings, folder = runs[kind]
    data = record(folder)
    assert data["status"] == "ok"
    assert data["config_hash"] == settings.sha256
    for model in ("base", "adapted", "change"):
        assert set(data["evaluation"][model]) == set(TASKS)
        for metrics in data["evaluation"][model].values():
            assert metrics
            for interval in metrics.values():
                assert interval["low"] <= interval["value"] <= interval["high"]
    assert set(data["evaluation"]["keys"]) == set(TASKS)
    assert set(data["validation"]["adapted"]) == {"nerus"}
    assert data["validation"]["adapted"]["nerus"].keys() == data["evaluation"]["base"]["nerus"].keys()
    assert [point["step"] for point in data["training"]["loss"]] == [1, 2]
    assert all(math.isfinite(point["loss"]) for point in data["training"]["loss"])
    assert data["training"]["steps"] == 2
    raw, template, padded = (data["training"]["tokens"][key] for key in ("raw", "template", "padded"))
    assert 0 < raw < template <= padded
    assert 0 < data["training"]["tokens"]["computed"] <= padded
    assert data["resources"]["peak_rss_bytes"] > 1e7
    assert data["resources"]["wall_s"] > 0
    assert all({"name", "passed", "reason"} <= gate.keys() for gate in data["gates"])
    gates = {gate["name"] for gate in data["gates"]}
    assert {"overlap", "eos_unsupervised", "loss_exploding", "adapter_without_effect"} <= gates
    assert ({"base_changed", "bytes_mismatch"} <= gates) == (kind != "full")  # it changes the base by definition


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_those_of_the_closed_formula(runs, root, kind):
    settings, folder = runs[kind]
    data = record(folder)
    shape = read_shape(settings.model, root / "cache")
    assert data["model"]["trainable_parameters"] == count_parameters(adapter_spec(settings), shape)
    assert data["model"]["total_parameters"] == shape.parameters
    gates = {gate["name"]: gate for gate in data["gates"]}
    if kind != "full":
        assert gates["bytes_mismatch"]["passed"], gates["bytes_mismatch"]["reason"]
        assert gates["base_changed"]["passed"], gates["base_changed"]["reason"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TASKS)
def test_metrics_are_what_the_predictions_aggregate_to(runs, kind, name):
    settings, folder = runs[kind]
    data = record(folder)
    scored = settings.special_tasks + settings.general_tasks
    task = build_task(next(found for found in scored if found.name == name))
    values = {}
    for model in ("base", "adapted"):
        rows = read_predictions(folder / "predictions" / f"{name}.{model}.jsonl")
        keys = rows[0].statistics.keys()
        sums = {key: sum(row.statistics[key] for row in rows) for key in keys}
        values[model] = {metric: float(value) for metric, value in task.aggregate(sums).items()}
        recorded = {metric: found["value"] for metric, found in data["evaluation"][model][name].items()}
        assert recorded == pytest.approx(values[model])
    change = {metric: found["value"] for metric, found in data["evaluation"]["change"][name].items()}
    assert change == pytest.approx({key: values["adapted"][key] - values["base"][key] for key in change}, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_are_paired_and_the_base_is_the_same_one(runs, kind):
    """All runs of the process share a base: what one of them left on it would show in the next one's base scores."""
    _, folder = runs[kind]
    _, first = runs["lora"]
    for name in TASKS:
        base, adapted = (
            read_predictions(folder / "predictions" / f"{name}.{model}.jsonl") for model in ("base", "adapted")
        )
        assert [row.item_hash for row in base] == [row.item_hash for row in adapted]
        assert len({row.item_hash for row in base}) == 4
        assert [row.prompt_hash for row in base] == [row.prompt_hash for row in adapted]
        if kind != "full":  # its base is not quantised
            other = read_predictions(first / "predictions" / f"{name}.base.jsonl")
            assert [(row.response, row.logprobs) for row in base] == [(row.response, row.logprobs) for row in other]


@pytest.mark.parametrize("kind", ["lora", "mlp"])
def test_the_same_configuration_gives_the_same_bytes(runs, root, kind):
    settings, folder = runs[kind]
    base = load_base(settings.model, settings.quantization, cache_dir=root / "cache", device="cpu")
    before = weights_sha256(base.model)
    run_experiment(settings, root / "outputs" / f"{kind}-again")
    assert numbers(root / "outputs" / f"{kind}-again") == numbers(folder)
    assert weights_sha256(base.model) == before
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    assert not hasattr(base.model, "peft_config")


@pytest.mark.parametrize("kind", ["lora", "mlp"])
def test_no_saving_changes_what_a_run_finds(runs, root, kind):
    _, exact = runs[kind]
    plain = root / "outputs" / f"{kind}-plain"
    run_experiment(config(root, *KINDS[kind], "speed=plain", "quantization.keep=4bit"), plain)
    found, wanted = record(exact), record(plain)
    for curve in ("loss", "validation_loss"):
        losses = [[point["loss"] for point in data["training"][curve]] for data in (found, wanted)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert found["training"]["tokens"]["computed"] < wanted["training"]["tokens"]["computed"]
    assert [gate["passed"] for gate in found["gates"]] == [gate["passed"] for gate in wanted["gates"]]
    weights, reference = (load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (exact, plain))
    for name, tensor in weights.items():
        assert torch.allclose(tensor, reference[name], rtol=0, atol=1e-4)
    for name in TASKS:
        rows, others = (read_predictions(folder / "predictions" / f"{name}.adapted.jsonl") for folder in (exact, plain))
        for row, other in zip(rows, others, strict=True):
            assert (row.response, row.prediction, row.statistics) == (
                other.response,
                other.prediction,
                other.statistics,
            )
            for logprobs, known in zip(row.logprobs, other.logprobs, strict=True):
                assert logprobs == pytest.approx(known, abs=1e-4)


def test_another_seed_gives_other_numbers(runs, root):
    _, folder = runs["lora"]
    run_experiment(config(root, *KINDS["lora"], "seed=1"), root / "outputs" / "seed-1")
    assert numbers(root / "outputs" / "seed-1")["weights"] != numbers(folder)["weights"]


def test_the_base_alone(root):
    folder = root / "outputs" / "none"
    data = run_experiment(config(root, "adapter=none"), folder)
    assert data["status"] == "ok"
    assert set(data["evaluation"]) == {"base", "base_from_cache", "baseline", "keys"}
    assert data["training"] == {}
    assert data["model"]["trainable_parameters"] == 0
    assert sorted(path.name for path in (folder / "predictions").iterdir()) == ["nerus.base.jsonl", "terra.base.jsonl"]
    assert not (folder / "adapter").exists()
    assert not (folder / "checkpoints").exists()


@pytest.mark.parametrize("kind", ["lora", "lora_mlp", "full"])
def test_a_saved_adapter_scores_as_it_did_when_it_was_trained(runs, root, kind):
    _, trained = runs[kind]
    folder = root / "outputs" / f"saved-{kind}"
    more = ("quantization=none",) if kind == "full" else ()
    data = run_experiment(
        config(root, "adapter=saved", f"adapter.path={trained / 'adapter'}", "task=terra", *more), folder
    )
    assert data["status"] == "ok"
    assert data["training"] == {}
    for model in ("base", "adapted"):
        then, now = (read_predictions(run / "predictions" / f"terra.{model}.jsonl") for run in (trained, folder))
        # `task=terra` scores terra first and nerus beside it; the earlier run did it the other way round.
        assert [(row.item_hash, row.response, row.logprobs) for row in then] == [
            (row.item_hash, row.response, row.logprobs) for row in now
        ]


def test_an_adapter_of_another_base_is_refused(runs, root):
    _, trained = runs["lora"]
    settings = config(root, "adapter=saved", f"adapter.path={trained / 'adapter'}", "model.seed=1")
    with pytest.raises(UserError, match="was trained on tiny with checkpoint SHA-256"):
        run_experiment(settings, root / "outputs" / "foreign")


def test_terra_can_be_the_trained_task(root):
    folder = root / "outputs" / "terra"
    data = run_experiment(config(root, "task=terra"), folder)
    assert data["tasks"] == {
        "terra": {"primary": data["tasks"]["terra"]["primary"], "role": "special"},
        "nerus": {"primary": data["tasks"]["nerus"]["primary"], "role": "general"},
    }
    assert set(data["validation"]["adapted"]) == {"terra"}
    assert set(data["evaluation"]["change"]) == set(TASKS)


def test_a_failing_run_says_so_everywhere(tmp_path, monkeypatch, caplog):
    """What goes wrong in training leaves the record, the base's scores, the traceback and a FAILED run in MLflow."""
    import torch

    import adapter_exp.experiment as flow

    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("the adapter cannot be put on")

    monkeypatch.setattr(flow, "attach", broken)
    folder = tmp_path / "outputs" / "broken"
    settings = config(tmp_path, "tracking=mlflow", "tracking.log_system_metrics=false")
    with caplog.at_level(logging.WARNING), pytest.raises(RuntimeError, match="cannot be put on"):
        run_experiment(settings, folder)
    data = record(folder)
    assert data["status"] == "failed"
    assert data["error"]["type"] == "RuntimeError"
    assert "in broken" in (folder / "error.txt").read_text(encoding="utf-8")
    assert set(data["evaluation"]["base"]) == set(TASKS)
    assert _mlflow_runs(tmp_path) == [("broken", "FAILED")]

    def full(*args: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(flow, "attach", full)
    with pytest.raises(torch.OutOfMemoryError):
        run_experiment(config(tmp_path), tmp_path / "outputs" / "oom")
    assert record(tmp_path / "outputs" / "oom")["status"] == "oom"


def test_a_run_and_its_mlflow_copy(tmp_path):
    folder = tmp_path / "outputs" / "tracked"
    run_experiment(config(tmp_path, "tracking=mlflow", "tracking.log_system_metrics=false"), folder)
    data = record(folder)
    assert data["tracking"]["mlflow"]["logged"] is True
    assert _mlflow_runs(tmp_path) == [("tracked", "FINISHED")]
    assert (folder / "plots").is_dir()
    assert sorted(path.suffix for path in (folder / "plots").iterdir())


def _mlflow_runs(root: Path) -> list[tuple[str, str]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root}/outputs/mlflow.db")
    experiment = client.get_experiment_by_name("adapter_exp")
    return [(run.info.run_name, run.info.status) for run in client.search_runs([experiment.experiment_id])]


def test_a_diverged_run_keeps_its_losses(tmp_path, monkeypatch):
    """The loss is no number from the second forward pass on: the record holds the curve up to there."""
    from adapter_exp.training import trainer

    whole, step, steps = trainer.answer_loss_sum, trainer.AdapterTrainer.training_step, []

    def counted(*args, **options):  # not the losses that the memory is measured by, before training
        steps.append(1)
        return step(*args, **options)

    def poisoned(*args, **options):
        total, tokens = whole(*args, **options)
        return (total if len(steps) <= 1 else total * math.nan), tokens

    monkeypatch.setattr(trainer.AdapterTrainer, "training_step", counted)
    monkeypatch.setattr(trainer, "answer_loss_sum", poisoned)
    folder = tmp_path / "outputs" / "diverged"
    with pytest.raises(TrainingDiverged, match=r"at step \d; lower trainer.learning_rate"):
        run_experiment(config(tmp_path), folder)
    data = load_record(folder)
    assert data["status"] == "failed"
    assert data["error"]["type"] == "TrainingDiverged"
    assert data["training"]["loss"][0]["loss"] > 0
    assert data["training"]["loss"][-1]["loss"] is None
    assert data["non_finite"]


def test_a_saved_adapter_is_checked_for_items_that_it_was_trained_on(runs, root, tmp_path):
    """The same sentences as training and as test: a folder whose splits are one file."""
    import shutil

    from adapter_exp.data.bundled import bundled_path

    source = tmp_path / "data"
    shutil.copytree(bundled_path("nerus"), source)
    for split in ("validation", "test"):
        shutil.copy(source / "train.conllu.gz", source / f"{split}.conllu.gz")
    first = run_experiment(config(root, f"task.path={source}", "task.max_eval=8"), tmp_path / "first")
    again = run_experiment(
        config(
            root, "adapter=saved", f"adapter.path={tmp_path}/first/adapter", f"task.path={source}", "task.max_eval=8"
        ),
        tmp_path / "again",
    )
    for data in (first, again):
        assert "overlap" in {gate["name"] for gate in data["gates"] if not gate["passed"]}
