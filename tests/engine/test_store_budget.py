"""How much of the disk the store takes, what goes first, and what happens when there is no room."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import MANY, SPACE, WIDTH, Source, bytes_in, files, keys_of, names, needs, right_row

from adapter_exp.engine import store as store_module
from adapter_exp.engine.store import StateStore


def kept(folder: Path, numbers, space: str = SPACE) -> bool:
    return StateStore(folder, max_bytes=MANY).has(space, keys_of(numbers), width=WIDTH, dtype=torch.float32)


def mapped_files(folder: Path) -> list[str]:
    maps = Path("/proc/self/maps")
    return [line for line in maps.read_text().splitlines() if f"{folder}/" in line] if maps.is_file() else []


@settings(max_examples=30, deadline=None)
@given(
    max_bytes=st.integers(0, needs(12)),
    calls=st.lists(st.tuples(st.sampled_from("abc"), st.sets(st.integers(0, 9), max_size=8)), max_size=8),
    portion=st.sampled_from([1, 300, 1 << 20]),
    segment=st.sampled_from([1, 500, 1 << 20]),
)
def test_no_call_leaves_more_than_the_limit(max_bytes: int, calls, portion: int, segment: int):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "PORTION_BYTES", portion)
        patch.setattr(store_module, "SEGMENT_BYTES", segment)
        store, folder = StateStore(Path(name), max_bytes=max_bytes), Path(name)
        for space, numbers in calls:
            Source().take(store, numbers, space)
            assert bytes_in(folder) <= max_bytes
            assert {path.stem for path in files(folder, ".rows")} == {path.stem for path in files(folder, ".index")}


def test_what_was_used_least_recently_goes_first(tmp_path: Path):
    store, source = StateStore(tmp_path, max_bytes=3 * needs(1)), Source()
    for space in ("a1", "a2", "a3"):
        source.take(store, [1], space)
    source.take(StateStore(tmp_path, max_bytes=3 * needs(1)), [1], "a1")  # another process's use counts as well
    assert source.computed == []
    source.take(store, [1], "a4")
    assert [kept(tmp_path, [1], space) for space in ("a1", "a2", "a3", "a4")] == [True, False, True, True]
    source.take(store, [2], "a4")
    assert [kept(tmp_path, [1], space) for space in ("a1", "a2", "a3", "a4")] == [True, False, False, True]


def test_what_the_call_itself_needs_stays(tmp_path: Path):
    store, source = StateStore(tmp_path, max_bytes=2 * needs(1)), Source()
    source.take(store, [1])
    source.take(store, [5], "b2")
    source.take(store, [1, 2])  # 1 is older than 5
    assert names(source.computed) == {2}
    assert kept(tmp_path, [1, 2]) and not kept(tmp_path, [5], "b2")
    source.take(store, [1, 2, 3])
    assert names(source.computed) == {3} and kept(tmp_path, [1, 2]) and not kept(tmp_path, [3])


def test_a_lower_limit_takes_effect_when_the_store_is_opened(tmp_path: Path):
    source = Source()
    for space in ("a1", "a2", "a3"):
        source.take(StateStore(tmp_path, max_bytes=MANY), [1], space)
    StateStore(tmp_path, max_bytes=needs(1))
    assert bytes_in(tmp_path) <= needs(1) and kept(tmp_path, [1], "a3")


@pytest.mark.parametrize("segment", [1, 1 << 20], ids=["published in part", "in one"])
def test_a_set_that_cannot_fit_is_returned_and_not_kept(tmp_path: Path, monkeypatch, segment: int):
    monkeypatch.setattr(store_module, "PORTION_BYTES", 1)
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", segment)
    reasons: list[str] = []
    store, source = StateStore(tmp_path, max_bytes=needs(4), on_unkept=reasons.append), Source()
    for _ in range(2):
        rows = source.take(store, range(6))
        assert sorted(source.computed) == keys_of(range(6)) and bytes_in(tmp_path) == 0
        assert len(rows) == 6 and not mapped_files(tmp_path)  # a map would keep the removed file's bytes on the disk
    assert len(reasons) == 2 and all(reason and "\n" not in reason for reason in reasons)
    source.take(store, range(4))
    assert kept(tmp_path, range(4)) and len(reasons) == 2


@pytest.fixture
def disk(tmp_path: Path, monkeypatch) -> Callable[[int], None]:
    """Set how many bytes the folder's files may have in all before less than half a GiB is left on the disk."""

    def resize(capacity: int) -> None:
        def usage(_):
            free = (512 << 20) + capacity - bytes_in(tmp_path)
            return shutil._ntuple_diskusage(free + bytes_in(tmp_path), bytes_in(tmp_path), free)

        monkeypatch.setattr(shutil, "disk_usage", usage)

    return resize


def test_room_for(tmp_path: Path, disk):
    store = StateStore(tmp_path / "not" / "yet", max_bytes=1000)
    assert store.room_for(1000) and not store.room_for(1001)
    store = StateStore(tmp_path, max_bytes=MANY)
    Source().take(store, range(4))
    disk(5000)  # what lies there already could go
    assert store.room_for(5000) and not store.room_for(5001)
    disk(2 * MANY)
    assert store.room_for(MANY) and not store.room_for(MANY + 1)


def test_a_disk_is_not_filled_to_the_brim(tmp_path: Path, disk):
    store, source = StateStore(tmp_path, max_bytes=MANY), Source()
    source.take(store, range(4))
    disk(needs(4))
    source.take(store, range(6, 12))
    assert names(source.computed) == set(range(6, 12)) and kept(tmp_path, range(4)) and not kept(tmp_path, [6])
    source.take(store, [6])
    assert kept(tmp_path, [6]) and not kept(tmp_path, range(4))


def test_two_writers_at_once_do_not_take_the_same_room(tmp_path: Path, monkeypatch):
    """Both would find room for one if they could look at the same time."""
    both = threading.Barrier(2, timeout=0.5)
    seen: list[int] = []

    def meet(_):
        seen.append(bytes_in(tmp_path))
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait()
        return shutil._ntuple_diskusage(MANY, 0, MANY)

    monkeypatch.setattr(shutil, "disk_usage", meet)
    stores = [StateStore(tmp_path, max_bytes=needs(3)) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda store, space: Source().take(store, range(2), space), stores, ["a1", "b2"]))
    assert 0 < max(seen) <= needs(3) and bytes_in(tmp_path) <= needs(3)


class FullDisk(io.FileIO):
    """Takes a number of bytes, then says what a full disk says."""

    room = 0

    def write(self, data) -> int:
        part = memoryview(data).cast("B")[: FullDisk.room]
        FullDisk.room -= len(part)
        if not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(part)


@pytest.mark.parametrize("segment", [1, 1 << 20], ids=["segment by segment", "in one"])
@pytest.mark.parametrize("room", [0, 100, 129, 300, 760])
def test_a_full_disk_costs_only_the_keeping(tmp_path: Path, monkeypatch, room: int, segment: int):
    monkeypatch.setattr(store_module, "PORTION_BYTES", 1)
    monkeypatch.setattr(store_module, "SEGMENT_BYTES", segment)
    reasons: list[str] = []
    store, source = StateStore(tmp_path, max_bytes=MANY, on_unkept=reasons.append), Source()
    source.take(store, [8, 9])
    before = bytes_in(tmp_path)
    real_open = Path.open

    def full_open(path: Path, mode: str = "r", *rest, **named):
        if mode == "xb":
            return io.BufferedWriter(FullDisk(path, "xb"))
        return real_open(path, mode, *rest, **named)

    monkeypatch.setattr(FullDisk, "room", room)
    monkeypatch.setattr(Path, "open", full_open)
    source.take(store, [*range(6), 8])
    assert sorted(source.computed) == keys_of(range(6))
    assert len(reasons) == 1 and "No space left" in reasons[0]
    assert bytes_in(tmp_path) == before and kept(tmp_path, [8, 9])
    monkeypatch.setattr(Path, "open", real_open)
    source.take(store, [*range(6), 8])
    source.take(store, range(6))
    assert source.computed == [] and len(reasons) == 1


@pytest.mark.parametrize("nth", [0, 1, 2, 3])
def test_a_disk_that_fails_when_flushed_costs_only_the_keeping(tmp_path: Path, monkeypatch, nth: int):
    store, source = StateStore(tmp_path, max_bytes=MANY), Source()
    real_fsync, calls = os.fsync, []

    def failing(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) - 1 == nth:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    source.take(store, range(3))
    # Rows, index and folder are flushed; with no failure among the three all is kept.
    assert kept(tmp_path, range(3)) == (nth == 3) and (nth == 3 or bytes_in(tmp_path) == 0)


def test_a_folder_that_cannot_be_made_costs_only_the_keeping(tmp_path: Path):
    (tmp_path / "file").write_text("")
    reasons: list[str] = []
    store, source = StateStore(tmp_path / "file" / "states", max_bytes=MANY, on_unkept=reasons.append), Source()
    source.take(store, range(3))
    assert names(source.computed) == {0, 1, 2} and len(reasons) == 1


def test_rows_outlive_their_removal(tmp_path: Path):
    source = Source()
    store = StateStore(tmp_path, max_bytes=needs(4))
    source.take(store, range(4))
    held = source.take(store, range(4))
    source.take(store, range(4), "b2")
    assert source.computed and not kept(tmp_path, range(4))
    assert all(torch.equal(row, right_row(key)) for row, key in zip(held, keys_of(range(4)), strict=True))
    source.take(store, range(4))
    assert names(source.computed) == set(range(4))


def test_a_folder_removed_while_rows_are_written_costs_only_the_keeping(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(store_module, "PORTION_BYTES", 1)
    folder = tmp_path / "states"
    store = StateStore(folder, max_bytes=MANY)

    def compute(indices):
        for index in indices:
            if index == 3 and folder.is_dir():
                shutil.rmtree(folder)
            yield index, right_row(keys[index])

    keys = keys_of(range(5))
    rows = store.rows(SPACE, keys, width=WIDTH, dtype=torch.float32, compute=compute)
    assert all(torch.equal(row, right_row(key)) for row, key in zip(rows, keys, strict=True))
