"""How far a run is, as a file tells it to another process; the terminal's side is in ``test_terminal``."""

from __future__ import annotations

import io
import itertools
import json
import threading
from pathlib import Path

import pytest
from rich.console import Console

from adapter_exp.report import progress
from adapter_exp.report.progress import Progress


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=80)


def _status(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def test_the_file_names_phase_and_progress(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "progress.json"
    shown = Progress(console, status_file=file)
    with shown.phase("load base"):
        assert {key: _status(file)[key] for key in ("phase", "done", "total")} == {
            "phase": "load base",
            "done": 0,
            "total": 0,
        }
    monkeypatch.setattr(progress, "STATUS_EVERY_S", 0.0)
    with shown.phase("train", unit="steps") as phase:
        phase.step(12, 40, loss=1.2, tokens_per_s=300.0)
        seen = _status(file)
    assert (seen["phase"], seen["done"], seen["total"], seen["unit"]) == ("train", 12, 40, "steps")
    assert "loss 1.2000" in seen["note"]
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_a_fast_phase_writes_once_a_second(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch):
    writes: list[float] = []
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (writes.append(clock[0]), replace(self, to))[1])
    with Progress(console, status_file=tmp_path / "progress.json").phase("evaluate base") as phase:
        for done in range(1, 301):
            clock[0] += 0.01
            phase(done, 300)
    assert 3 <= len(writes) <= 4 and all(b - a >= 1.0 for a, b in itertools.pairwise(writes))


def test_a_disk_that_is_gone_does_not_end_the_run(tmp_path: Path, console: Console):
    with Progress(console, status_file=tmp_path / "missing" / "progress.json").phase("train") as phase:
        phase(1, 2)
    assert not (tmp_path / "missing").exists()


def test_without_a_file_nothing_is_written(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with Progress(console).phase("train") as phase:
        phase(1, 2)
    assert list(tmp_path.iterdir()) == []


def test_a_reader_never_sees_half_a_file(tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "STATUS_EVERY_S", 0.0)
    file, stop, seen = tmp_path / "progress.json", threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            if file.exists():
                seen.append(_status(file)["done"])

    reader = threading.Thread(target=read)
    with Progress(console, status_file=file).phase("train") as phase:
        reader.start()
        for done in range(1, 1000):
            phase(done, 1000)
        stop.set()
        reader.join()
    assert len(seen) > 10 and seen == sorted(seen)
