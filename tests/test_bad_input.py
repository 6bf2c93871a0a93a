"""What a user can get wrong: one line each that names the key or file, exit code 2, and nothing lost."""

from __future__ import annotations

import errno
import gzip
import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from experiment_samples import config, overrides, record

from adapter_exp import resolvers
from adapter_exp import run as entrypoint
from adapter_exp.data.bundled import bundled_path
from adapter_exp.experiment import run_experiment
from adapter_exp.files import sha256_file
from adapter_exp.models.sources import resolve

CALLS = itertools.count(1)


class Command:
    """The command line in this process; every call gets a run folder of its own, as a new process does."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.monkeypatch, self.capsys = root, monkeypatch, capsys

    def __call__(self, *more: str) -> tuple[int, list[str]]:
        """Exit code and the lines on standard error that tell a fault."""
        self.monkeypatch.setattr(resolvers, "_RUN_NAME", f"call-{next(CALLS)}")
        self.monkeypatch.setattr(sys, "argv", ["run", *overrides(self.root, *more)])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            entrypoint.main()
        lines = self.capsys.readouterr().err.splitlines()
        return int(str(ended.value.code)), [line for line in lines if line.startswith("error: ")]

    def refused(self, *more: str) -> str:
        """The one line of a refusal that leaves no folder behind."""
        before = folders(self.root)
        code, lines = self(*more)
        assert code == 2, lines
        assert len(lines) == 1, lines
        assert folders(self.root) == before
        return lines[0].removeprefix("error: ")


def folders(root: Path) -> set[str]:
    return {path.name for path in (root / "outputs").glob("*")}


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a finished run, in ``outputs/trained``."""
    root = tmp_path_factory.mktemp("trained")
    run_experiment(config(root), root / "outputs" / "trained")
    return root


NERUS = gzip.decompress((bundled_path("nerus") / "train.conllu.gz").read_bytes()).decode()
TERRA = [json.loads(line) for line in (bundled_path("terra") / "train.jsonl").read_text("utf-8").splitlines()]


def rows(*found: object) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in found).encode()


DATA = {
    "missing": ("nerus", "x.conllu", None, "there is no such file"),
    "empty": ("nerus", "x.conllu", b"", "the file is empty"),
    "cut": ("nerus", "x.conllu.gz", gzip.compress(NERUS.encode())[:3000], "damaged gzip after line"),
    "no gzip": ("nerus", "x.conllu.gz", b"text", "damaged gzip"),
    "encoding": ("nerus", "x.conllu", NERUS.encode("cp1251"), "x.conllu:3: not UTF-8"),
    "schema": ("nerus", "x.conllu", b"# newdoc id = 0\n# text = A\n1\tA\n", "x.conllu:3: 2 tab-separated columns"),
    "label": ("nerus", "x.conllu", NERUS.replace("B-PER", "B-DOG", 1).encode(), "unknown label 'Tag=B-DOG'"),
    "terra schema": ("terra", "x.jsonl", rows(TERRA[0], {"text": "a"}), "x.jsonl:2: no text in 'premise'"),
    "terra no json": ("terra", "x.jsonl", rows(TERRA[0]) + b'{"premise": \n', "x.jsonl:2: not JSON"),
    "terra label": (
        "terra",
        "x.jsonl",
        rows(TERRA[0], {**TERRA[1], "label": "maybe"}),
        "x.jsonl:2: unknown label 'maybe'",
    ),
    "terra no target": ("terra", "x.jsonl", rows({"premise": "a", "hypothesis": "b"}), "x.jsonl:1: no 'label'"),
}


@pytest.mark.parametrize("case", DATA)
def test_data_files(command, tmp_path, case):
    task, name, content, expected = DATA[case]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    line = command.refused(f"task={task}", f"task.path={path}")
    assert line.startswith(str(path))
    assert expected in line


def test_no_example_is_left(command):
    line = command.refused("task.min_chars=5000")
    assert "no sentence for the train split" in line
    assert "min_chars" in line


def test_a_text_longer_than_the_context(command, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_bytes(rows(*({**row, "premise": row["premise"] * 40} for row in TERRA)))
    code, lines = command("task=terra", f"task.path={path}", "task.max_train=2")
    assert code == 2
    assert all("the limit is 1024 (model.max_length)" in line and "Raise the limit" in line for line in lines)
    (folder,) = folders(tmp_path)
    assert record(tmp_path / "outputs" / folder)["status"] == "failed"


CONFIG = {
    "r=0": (("adapter.r=0",), "adapter.r: 0 is too small"),
    "negative r": (("adapter.r=-1",), "adapter.r: -1 is too small"),
    "r above the matrix": (
        ("adapter.r=65", "adapter.target_modules=[q_proj]"),
        "adapter.r: 65 is more than the smaller side of q_proj (64 to 64) in tiny. Use 64 or less",
    ),
    "layers": (("adapter.layers=last:40",), "adapter.layers: 'last:40' asks for 40 layers, but tiny has 4."),
    "module": (("adapter.target_modules=[q_prj]",), "Did you mean q_proj"),
    "full on nf4": (("adapter=full",), "Use quantization=none, or adapter=lora"),
    "context": (("model.max_length=9999",), "model.max_length: 9999 is more than tiny's context of 1024 tokens"),
    "optimizer": (("trainer.optimizer=paged_adamw_8bit",), "needs a CUDA device; use adamw here"),
    "hub": (("model=llama31_8b_instruct",), "model.id: 'meta-llama/Llama-3.1-8B-Instruct'"),
    "no adapter": (("adapter=saved", "adapter.path=/nowhere"), "adapter.path: /nowhere: no such folder"),
    "unknown key": (("trainer.batchsize=2",), "trainer.batchsize: unknown key. Did you mean batch_size"),
    "unknown group": (("adapter=lorra",), "adapter: 'lorra' is unknown"),
}


@pytest.mark.parametrize("case", CONFIG)
def test_settings(command, case):
    more, expected = CONFIG[case]
    assert expected in command.refused(*more)


def test_all_faults_at_once(command, tmp_path):
    code, lines = command("adapter.r=0", "trainer.batch_size=0", "seed=-1")
    assert code == 2
    assert {line.split(":")[1].strip() for line in lines} == {"adapter.r", "trainer.batch_size", "seed"}
    assert folders(tmp_path) == set()


@pytest.mark.parametrize("key", ["output_dir", "cache_dir"])
def test_a_place_that_cannot_be_written(command, tmp_path, key):
    (tmp_path / "file").write_text("kept", encoding="utf-8")
    line = command.refused(f"{key}={tmp_path}/file/below")
    assert line.startswith(f"{tmp_path}/file/below")
    assert "cannot be written (Not a directory)" in line
    assert (tmp_path / "file").read_text(encoding="utf-8") == "kept"


def test_a_disk_that_fills_up_while_training(command, trained, monkeypatch):
    """The run that fails keeps its record, its base scores and the checkpoint before; the next command goes on."""
    import adapter_exp.training.checkpoints as checkpoints

    written: list[Path] = []
    write = checkpoints.write_json_atomic

    def fill(path: Path, data: object) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data)

    command.root = trained
    before = folders(trained)
    monkeypatch.setattr(checkpoints, "write_json_atomic", fill)
    settings = ("seed=7", "trainer.epochs=3", "trainer.save_steps=1")
    code, lines = command(*settings)
    assert code == 2
    assert len(lines) == 1
    assert "cannot be written (No space left on device); free space" in lines[0]
    (new,) = folders(trained) - before
    folder = trained / "outputs" / new
    assert record(folder)["status"] == "failed"
    assert set(record(folder)["evaluation"]["base"]) == {"nerus", "terra"}
    assert [path.name for path in (folder / "checkpoints").glob("step-*")]
    assert not [path for path in (folder / "checkpoints").iterdir() if path.name.startswith(".step")]
    monkeypatch.setattr(checkpoints, "write_json_atomic", write)
    assert run_experiment(config(trained, *settings, "resume=auto"), trained / "outputs" / "unused")["status"] == "ok"
    assert record(folder)["status"] == "ok"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def garble(path: Path) -> None:
    path.write_text("{", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "damage", "expected"),
    [
        ("adapter_model.safetensors", flip, "the file is damaged"),
        ("adapter_model.safetensors", cut, "the file is damaged"),
        ("adapter_model.safetensors", Path.unlink, "no such file"),
        ("adapter_exp.json", garble, "the file is damaged or of a newer version"),
    ],
    ids=["flipped", "cut", "gone", "manifest"],
)
def test_a_damaged_adapter(command, trained, tmp_path, name: str, damage: Callable[[Path], None], expected):
    adapter = tmp_path / "adapter"
    shutil.copytree(trained / "outputs" / "trained" / "adapter", adapter)
    damage(adapter / name)
    command.root = trained
    code, lines = command("adapter=saved", f"adapter.path={adapter}")
    assert code == 2
    assert len(lines) == 1
    assert str(adapter / name) in lines[0]
    assert expected in lines[0]


def test_an_adapter_of_another_base(command, trained):
    command.root = trained
    code, lines = command("adapter=saved", f"adapter.path={trained}/outputs/trained/adapter", "model.seed=1")
    assert code == 2
    assert len(lines) == 1
    assert "was trained on tiny with checkpoint SHA-256" in lines[0]
    assert "load it on its own base" in lines[0]


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_cached_model_is_made_again(trained, tmp_path, damage):
    shutil.copytree(trained / "cache" / "models", tmp_path / "cache" / "models")
    files = {path: sha256_file(path) for path in (tmp_path / "cache" / "models").glob("tiny-*/*.safetensors")}
    for path in files:
        damage(path)
    settings = config(tmp_path, "adapter=none")
    folder = resolve(settings.model, tmp_path / "cache").folder
    assert sha256_file(folder / "model.safetensors") == files[folder / "model.safetensors"]


def test_a_damaged_model_folder(command, trained, tmp_path):
    (source, *_) = (trained / "cache" / "models").glob("tiny-*/")
    shutil.copytree(source, tmp_path / "model")
    cut(tmp_path / "model" / "model.safetensors")
    code, lines = command("model=folder", f"model.path={tmp_path}/model")
    assert code == 2
    assert len(lines) == 1
    assert f"model.path: '{tmp_path}/model': model.safetensors is damaged or cut off" in lines[0]


def test_a_damaged_checkpoint(command, trained):
    settings = ("seed=8", "trainer.save_steps=1")
    folder = trained / "outputs" / "stopped"
    run_experiment(config(trained, *settings), folder)
    data = record(folder) | {"status": "cancelled"}
    (folder / "record.json").write_text(json.dumps(data), encoding="utf-8")
    newest = folder / "checkpoints" / "step-2"
    flip(newest / "optimizer.pt")
    command.root = trained
    code, lines = command(*settings, "resume=auto")
    assert code == 2
    assert len(lines) == 1
    assert str(newest / "optimizer.pt") in lines[0]
    assert "delete" in lines[0]
    assert newest.is_dir()
    shutil.rmtree(newest)  # as the line advises
    assert run_experiment(config(trained, *settings, "resume=auto"), trained / "outputs" / "unused")["status"] == "ok"
