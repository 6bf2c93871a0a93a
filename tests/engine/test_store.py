"""What is read is what was computed, whatever happened to the files."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import MANY, SPACE, WIDTH, Source, files, keys_of, names, right_row, same_bits

from adapter_exp.engine import store as store_module
from adapter_exp.engine.store import StateStore

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ROW_BYTES = 4 * WIDTH * 4


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "states", max_bytes=MANY)


@settings(max_examples=25, deadline=None)
@given(
    calls=st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=12), min_size=1, max_size=3),
    width=st.integers(1, 9),
    dtype=st.sampled_from(DTYPES),
    portion=st.sampled_from([1, 150, 1 << 20]),
    segment=st.sampled_from([1, 400, 1 << 20]),
)
def test_what_is_read_is_what_was_computed(calls, width, dtype, portion, segment):
    """Keys with repeats, rows of 0 to 5 tokens, any portions and segments; each row is computed once in all."""
    computed: list[str] = []
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "PORTION_BYTES", portion)
        patch.setattr(store_module, "SEGMENT_BYTES", segment)
        first = StateStore(Path(folder), max_bytes=MANY)
        for call in calls:
            keys = keys_of(number * 8 + tokens for number, tokens in call)
            right = [right_row(key, tokens=int(key, 16) % 8, width=width, dtype=dtype) for key in keys]

            def compute(indices, keys=keys, right=right):
                computed.extend(keys[index] for index in indices)
                return ((index, right[index]) for index in indices)

            for store in (first, StateStore(Path(folder), max_bytes=MANY)):
                rows = store.rows(SPACE, keys, width=width, dtype=dtype, compute=compute)
                assert all(same_bits(row, expected) for row, expected in zip(rows, right, strict=True))
                assert store.has(SPACE, keys, width=width, dtype=dtype)
    assert len(computed) == len(set(computed))


def test_bits_stay_also_of_values_that_are_no_numbers(store: StateStore):
    row = torch.tensor([[float("nan"), float("inf"), -0.0, 1e-45]])
    for _ in range(2):
        assert same_bits(store.rows(SPACE, ["aa"], width=4, dtype=torch.float32, compute=lambda _: [(0, row)])[0], row)


def test_rows_differ_by_space_width_and_type(store: StateStore):
    Source().take(store, [1])
    for source, space in (
        (Source(), "a2"),
        (Source(), "a"),
        (Source(width=4), SPACE),
        (Source(dtype=torch.bfloat16), SPACE),
    ):
        source.take(store, [1], space)
        assert names(source.computed) == {1}
    assert not store.has("a3", keys_of([1]), width=WIDTH, dtype=torch.float32)
    assert not store.has(SPACE, keys_of([1]), width=WIDTH, dtype=torch.float16)
    assert not store.has(SPACE, keys_of([1, 2]), width=WIDTH, dtype=torch.float32)
    assert store.has(SPACE, keys_of([1]), width=WIDTH, dtype=torch.float32)


@pytest.mark.parametrize(
    "computed",
    [
        pytest.param([(0, torch.zeros(2, WIDTH)), (7, torch.zeros(2, WIDTH))], id="foreign index"),
        pytest.param([(0, torch.zeros(2, WIDTH))] * 2, id="twice"),
        pytest.param([(0, torch.zeros(2, WIDTH))], id="not all"),
        pytest.param([(0, torch.zeros(2, WIDTH + 1))], id="width"),
        pytest.param([(0, torch.zeros(WIDTH))], id="no tokens"),
        pytest.param([(0, torch.zeros(2, WIDTH).half())], id="type"),
    ],
)
def test_wrong_rows_are_refused_and_leave_nothing(store: StateStore, tmp_path: Path, computed):
    with pytest.raises(ValueError, match="compute"):
        store.rows(SPACE, keys_of([1, 2]), width=WIDTH, dtype=torch.float32, compute=lambda _: computed)
    assert not files(tmp_path / "states", ".rows") and not files(tmp_path / "states", ".index")
    Source().take(store, [1, 2])


@pytest.mark.parametrize(
    ("space", "key", "width"), [("../x", "aa", 8), ("", "aa", 8), ("aa", "a b", 8), ("aa", "a", 0)]
)
def test_names_that_are_no_digests_are_refused(store: StateStore, space, key, width):
    with pytest.raises(ValueError, match=r"hex digest|width"):
        store.rows(space, [key], width=width, dtype=torch.float32, compute=lambda _: [])


def test_an_error_while_computing_goes_through_and_leaves_nothing(store: StateStore, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(store_module, "PORTION_BYTES", 1)

    def compute(_):
        yield 0, right_row("0001")
        raise FileNotFoundError("the model's own trouble")

    with pytest.raises(FileNotFoundError, match="own trouble"):
        store.rows(SPACE, keys_of([1, 2]), width=WIDTH, dtype=torch.float32, compute=compute)
    assert not files(tmp_path / "states", ".rows")
    source = Source()
    source.take(store, [1, 2])
    assert names(source.computed) == {1, 2}


def test_compute_may_use_another_space(store: StateStore):
    def compute(indices):
        below = Source().take(store, [5], "b2")[0]
        return [(index, below + 1) for index in indices]

    for _ in range(2):
        row = store.rows(SPACE, ["aa"], width=WIDTH, dtype=torch.float32, compute=compute)[0]
        assert torch.equal(row, right_row("0005") + 1)


def test_rows_are_copies_of_what_compute_yields(store: StateStore):
    buffer = torch.zeros(4, 2 * WIDTH)

    def compute(indices):
        for index in indices:
            buffer.fill_(index)
            yield index, buffer[:, ::2]

    for _ in range(2):
        rows = store.rows(SPACE, keys_of(range(3)), width=WIDTH, dtype=torch.float32, compute=compute)
        assert [row.unique().tolist() for row in rows] == [[0], [1], [2]]


def test_changes_in_place_reach_neither_the_file_nor_others(store: StateStore, tmp_path: Path):
    Source().take(store, [1])
    rows = files(tmp_path / "states", ".rows")[0]
    before = rows.read_bytes()
    for row in Source().take(store, [1]):
        row.zero_()
    source = Source()
    source.take(store, [1])
    source.take(StateStore(tmp_path / "states", max_bytes=MANY), [1])
    assert source.computed == [] and rows.read_bytes() == before


@pytest.mark.parametrize("max_bytes", [MANY, 0], ids=["mapped", "in memory"])
def test_rows_taken_in_inference_mode_serve_training(tmp_path: Path, max_bytes: int):
    store = StateStore(tmp_path, max_bytes=max_bytes)

    @torch.inference_mode()
    def compute(indices):
        return [(index, torch.ones(2, WIDTH)) for index in indices]

    for _ in range(2):
        with torch.inference_mode():
            row = store.rows(SPACE, ["aa"], width=WIDTH, dtype=torch.float32, compute=compute)[0]
        weight = torch.ones(WIDTH, requires_grad=True)
        (row * weight).sum().backward()
        assert torch.equal(weight.grad, torch.full((WIDTH,), 2.0))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_rows_take_no_file_descriptors(store: StateStore):
    held = Source().take(store, [0])
    before = len(list(Path("/proc/self/fd").iterdir()))
    held += [Source().take(store, [number])[0] for number in range(1, 12)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def cut(folder: Path) -> None:
    path = files(folder, ".rows")[0]
    os.truncate(path, 3 * ROW_BYTES + 5)


def flip(folder: Path) -> None:
    path = files(folder, ".rows")[0]
    data = bytearray(path.read_bytes())
    data[2 * ROW_BYTES + 7] ^= 16
    path.write_bytes(data)


def edit_index(change):
    def spoil(folder: Path) -> None:
        path = files(folder, ".index")[0]
        lines = path.read_text().splitlines(keepends=True)
        path.write_bytes(change(lines))

    return spoil


def swap_two_keys(lines: list[str]) -> bytes:
    one, other = lines[1].split(), lines[4].split()
    lines[1], lines[4] = " ".join([other[0], *one[1:]]) + "\n", " ".join([one[0], *other[1:]]) + "\n"
    return "".join(lines).encode()


def as_other_width(folder: Path) -> None:
    """Rows of as many bytes, but half the tokens and twice the width, under the name of these."""
    for path in [*files(folder, ".rows"), *files(folder, ".index")]:
        path.unlink()
    Source(tokens=2, width=WIDTH * 2).take(StateStore(folder, max_bytes=MANY), range(6))
    for path in [*files(folder, ".rows"), *files(folder, ".index")]:
        path.rename(path.with_name(path.name.replace(f"-{WIDTH * 2}-", f"-{WIDTH}-")))


def of_other_space(folder: Path) -> None:
    """Rows of the same shape, made for another model, say, under the name of these."""
    for path in [*files(folder, ".rows"), *files(folder, ".index")]:
        path.unlink()
    Source().take(StateStore(folder, max_bytes=MANY), range(6), "b2")
    for path in [*files(folder, ".rows"), *files(folder, ".index")]:
        path.rename(path.with_name(f"{SPACE}{path.name.removeprefix('b2')}"))


def index_becomes_a_folder(folder: Path) -> None:
    index = files(folder, ".index")[0]
    index.unlink()
    index.mkdir()


def new_lines(*new: str):
    """The index with its first lines replaced."""
    return edit_index(lambda lines: "".join([*new, *lines[len(new) :]]).encode())


ALL = set(range(6))
# Rows are computed and written in falling order: 5 lies at the file's start, 0 at its end.
DAMAGE = {
    "nothing": (lambda _: None, set()),
    "cut file": (cut, {0, 1, 2}),
    "flipped bit": (flip, {3}),
    "empty file": (lambda folder: os.truncate(files(folder, ".rows")[0], 0), ALL),
    "no file": (lambda folder: files(folder, ".rows")[0].unlink(), ALL),
    "no index": (lambda folder: files(folder, ".index")[0].unlink(), ALL),
    "empty index": (edit_index(lambda _: b""), ALL),
    "index of noise": (edit_index(lambda _: bytes(range(256)) * 9), ALL),
    "index is a folder": (index_becomes_a_folder, ALL),
    "index of JSON": (edit_index(lambda _: b'{"rows": {"0001": [0, 4, 7]}}'), ALL),
    "cut index": (edit_index(lambda lines: "".join(lines)[: -len(lines[5]) // 2].encode()), {0}),
    "noise in a line": (edit_index(lambda lines: "".join(lines).encode().replace(b"0003 ", b"\xff\x00 ")), {3}),
    "a line break goes": (edit_index(lambda lines: "".join(lines).replace("\n0003", "0003").encode()), {3, 4}),
    "swapped keys": (edit_index(swap_two_keys), {1, 4}),
    "huge numbers": (
        new_lines(f"0005 {10**30} 4 1\n", f"0004 0 {10**30} 1\n", f"0003 {'9' * 5000} 4 1\n"),
        {3, 4, 5},
    ),
    "negative numbers": (new_lines("0005 -128 4 1\n", "0004 0 -4 1\n"), {4, 5}),
    "unaligned offset": (new_lines("0005 2 4 1\n"), {5}),
    "of another shape": (as_other_width, ALL),
    "of another space": (of_other_space, ALL),
}


@pytest.mark.parametrize(("spoil", "lost"), DAMAGE.values(), ids=DAMAGE)
def test_only_what_is_damaged_is_computed_again(store: StateStore, tmp_path: Path, spoil, lost: set[int]):
    source, folder = Source(), tmp_path / "states"
    source.take(store, range(6))
    assert len(files(folder, ".rows")) == len(files(folder, ".index")) == 1
    spoil(folder)
    source.take(StateStore(folder, max_bytes=MANY), range(6))
    assert names(source.computed) == lost
    source.take(StateStore(folder, max_bytes=MANY), range(6))
    assert source.computed == []


def test_a_store_that_knows_the_index_notices_that_files_changed_before_it_read_them(store: StateStore, tmp_path: Path):
    source, folder = Source(), tmp_path / "states"
    source.take(store, range(6))
    assert store.has(SPACE, keys_of(range(6)), width=WIDTH, dtype=torch.float32)
    flip(folder)
    source.take(store, range(6))
    assert names(source.computed) == {3}
    os.truncate(files(folder, ".rows")[0], 0)
    os.truncate(files(folder, ".rows")[1], 0)
    assert not store.has(SPACE, keys_of([1]), width=WIDTH, dtype=torch.float32)
    source.take(store, range(6))
    assert names(source.computed) == set(range(6))


def test_a_row_found_damaged_no_longer_counts_as_there(store: StateStore, tmp_path: Path):
    Source().take(store, range(6))
    flip(tmp_path / "states")

    def compute(indices):
        assert not store.has(SPACE, keys_of([3]), width=WIDTH, dtype=torch.float32)
        assert store.has(SPACE, keys_of([0, 1, 2, 4, 5]), width=WIDTH, dtype=torch.float32)
        return [(index, right_row("0003")) for index in indices]

    rows = store.rows(SPACE, keys_of([3]), width=WIDTH, dtype=torch.float32, compute=compute)
    assert same_bits(rows[0], right_row("0003"))


FAULTS = st.tuples(st.integers(0, 3), st.floats(0, 1), st.one_of(st.none(), st.binary(min_size=1, max_size=6)))


@settings(max_examples=40, deadline=None)
@given(faults=st.lists(FAULTS, min_size=1, max_size=4))
def test_no_damage_gives_wrong_numbers(faults: list[tuple[int, float, bytes | None]]):
    """Files cut (None) or overwritten anywhere; whatever is computed again is then whole."""
    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(name), Source()
        source.take(StateStore(folder, max_bytes=MANY), range(4))
        source.take(StateStore(folder, max_bytes=MANY), range(2, 6))
        paths = sorted([*files(folder, ".rows"), *files(folder, ".index")], key=lambda path: path.stat().st_size)
        for which, where, noise in faults:
            content = bytearray(paths[which].read_bytes())
            start = round(where * len(content))
            content[start : len(content) if noise is None else start + len(noise)] = noise or b""
            paths[which].write_bytes(content)
        source.take(StateStore(folder, max_bytes=MANY), range(6))
        source.take(StateStore(folder, max_bytes=MANY), range(6))
        assert source.computed == []
