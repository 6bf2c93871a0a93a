"""What only a CUDA device can show; skipped without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

TINY = [
    "model=tiny", "model.hidden_size=256", "model.intermediate_size=512", "tracking=none", "trainer.max_steps=6",
    "task.max_train=24", "task.max_eval=8", "task.max_validation=8", "eval.tasks.terra.max_eval=8",
]  # fmt: skip


def run(tmp_path: Path, *overrides: str) -> dict:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from adapter_exp.config import parse_config
    from adapter_exp.experiment import run_experiment
    from adapter_exp.files import conf_folder

    folders = [f"output_dir={tmp_path}/outputs", f"cache_dir={tmp_path}/cache", "device=cuda"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        composed = compose("config", [*TINY, *folders, *overrides])
    run_dir = tmp_path / "outputs" / f"run{len(list(tmp_path.glob('outputs/*')))}"
    run_experiment(parse_config(OmegaConf.to_container(composed, resolve=True)), run_dir)
    return json.loads((run_dir / "record.json").read_text())


@pytest.mark.parametrize("quantization", ["none", "nf4", "int8"])
@pytest.mark.parametrize("adapter", ["lora", "mlp", "lora_mlp"])
def test_the_main_job_on_cuda(tmp_path, quantization, adapter):
    record = run(tmp_path, f"quantization={quantization}", f"adapter={adapter}")
    assert record["status"] == "ok"
    assert record["model"]["device"] == "cuda"
    assert record["resources"]["peak_device_bytes"] > 0
    assert all(gate["passed"] for gate in record["gates"] if gate["name"] in ("base_changed", "bytes_mismatch"))


def test_paged_adamw_trains(tmp_path):
    record = run(tmp_path, "trainer.optimizer=paged_adamw_8bit")
    losses = [point["loss"] for point in record["training"]["loss"]]
    assert record["status"] == "ok"
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("layers", ["all", "last:2"])
def test_no_saving_changes_the_losses_on_cuda(tmp_path, layers):
    same = ["quantization=none", "model.dtype=float32", "trainer.batch_size=4", f"adapter.layers={layers}"]
    exact, plain = (run(tmp_path, *same, f"speed={speed}")["training"]["loss"] for speed in ("exact", "plain"))
    assert [p["loss"] for p in exact] == pytest.approx([p["loss"] for p in plain], rel=1e-4)


def test_fp32_on_cuda_gives_the_losses_of_the_cpu(tmp_path):
    same = ["quantization=none", "model.dtype=float32"]
    gpu = run(tmp_path, *same)["training"]["loss"]
    cpu = run(tmp_path, *same, "device=cpu")["training"]["loss"]
    assert [p["loss"] for p in gpu] == pytest.approx([p["loss"] for p in cpu], rel=1e-3)
