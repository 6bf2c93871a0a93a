"""Several processes on one store: each row computed once, killed writers leave nothing, thrashing stays right."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from store_samples import MANY, SPACE, WIDTH, Source, bytes_in, files, keys_of, names, needs

from adapter_exp.engine.store import StateStore

RACE = """
import sys
from pathlib import Path
from forking import at_once
from store_samples import Source
from adapter_exp.engine.store import StateStore

root, max_bytes = Path(sys.argv[1]), int(sys.argv[2])

def take(number, begin):
    source, store, computed = Source(), StateStore(root / "states", max_bytes=max_bytes), []
    begin()
    for turn in range(int(sys.argv[3])):
        for space in sys.argv[4:]:
            source.take(store, range(4 * number, 4 * number + 12), space)
            computed += source.computed
    return " ".join(computed)

at_once(root, 3, take)
"""
# Writes more than a portion, then waits to be killed.
WRITER = """
import sys, time
from pathlib import Path
import torch
from store_samples import keys_of
from adapter_exp.engine.store import PORTION_BYTES, StateStore

def compute(indices):
    for index in indices:
        if index == 5:
            print("written", flush=True)
            time.sleep(300)
        yield index, torch.full((PORTION_BYTES // 16, 1), float(index))

StateStore(Path(sys.argv[1]), max_bytes=1 << 40).rows(
    sys.argv[2], keys_of(range(6)), width=1, dtype=torch.float32, compute=compute)
"""


def environment() -> dict[str, str]:
    tests = Path(__file__).parents[1]
    return {**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}", "OMP_NUM_THREADS": "1"}


def race(root: Path, *arguments: object) -> list[list[str]]:
    command = [sys.executable, "-c", RACE, str(root), *map(str, arguments)]
    subprocess.run(command, env=environment(), check=True, timeout=120)
    return [(root / f"answer-{number}").read_text().split() for number in range(3)]


def test_three_processes_compute_each_row_once_in_all(tmp_path: Path):
    computed = [key for answer in race(tmp_path, MANY, 2, SPACE) for key in answer]
    assert sorted(computed) == keys_of(range(20))
    source = Source()
    source.take(StateStore(tmp_path / "states", max_bytes=MANY), range(20))
    assert source.computed == []


def test_processes_that_push_each_other_out_still_read_right_numbers(tmp_path: Path):
    """The limit holds one of two spaces. Each worker checks its numbers; its answer is what it computed."""
    max_bytes = needs(14)
    answers = race(tmp_path, max_bytes, 5, "b1", "b2")
    assert {key for answer in answers for key in answer} <= set(keys_of(range(20))), answers
    assert bytes_in(tmp_path / "states") <= max_bytes


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "states"
    Source().take(StateStore(folder, max_bytes=MANY), [1], "b2")
    command = [sys.executable, "-c", WRITER, str(folder), SPACE]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None and writer.stdout.readline() == "written\n"
        writer.send_signal(signal.SIGKILL)
    assert len(files(folder, ".rows")) == 2 and bytes_in(folder) > 1 << 20
    return folder


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path) -> Path:
    """A store's folder whose writer was killed after its first portion."""
    return Path(shutil.copytree(killed_once, tmp_path / "states"))


def test_what_a_killed_writer_left_is_invisible_and_goes_with_the_next_writer(killed: Path):
    store, source = StateStore(killed, max_bytes=MANY), Source(width=1)
    assert not store.has(SPACE, keys_of([0]), width=1, dtype=torch.float32)
    source.take(store, range(6))
    assert names(source.computed) == set(range(6))
    assert bytes_in(killed) < 1 << 20 and len(files(killed, ".rows")) == 2
    assert store.has("b2", keys_of([1]), width=WIDTH, dtype=torch.float32)


def test_what_a_killed_writer_left_makes_room_for_other_spaces(killed: Path):
    source, max_bytes = Source(), needs(4)
    source.take(StateStore(killed, max_bytes=max_bytes), [2, 3], "b3")
    source.take(StateStore(killed, max_bytes=max_bytes), [1], "b2")
    assert source.computed == [] and bytes_in(killed) <= max_bytes
    assert StateStore(killed, max_bytes=max_bytes).has("b3", keys_of([2, 3]), width=WIDTH, dtype=torch.float32)


def test_the_segment_of_a_living_writer_stays_where_others_want_its_room(tmp_path: Path, monkeypatch):
    """Another space is written within `compute`, with room for one of the two."""
    monkeypatch.setattr("adapter_exp.engine.store.PORTION_BYTES", 1)
    store = StateStore(tmp_path, max_bytes=needs(3))
    other = Source()

    def compute(indices):
        for index in indices:
            yield index, torch.full((4, WIDTH), float(index))
            if index == 1:
                other.take(store, range(2), "b2")

    rows = store.rows(SPACE, keys_of(range(3)), width=WIDTH, dtype=torch.float32, compute=compute)
    assert [row.unique().tolist() for row in rows] == [[0], [1], [2]]
    assert store.has(SPACE, keys_of(range(3)), width=WIDTH, dtype=torch.float32)
    assert not store.has("b2", keys_of(range(2)), width=WIDTH, dtype=torch.float32)
