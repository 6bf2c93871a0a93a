"""Checkpoints are whole or absent."""

from __future__ import annotations

import pytest

from adapter_exp.errors import UserError
from adapter_exp.training.checkpoints import checkpoint_folders, publish, step_of, verify


def write(folder, step, keep=2):
    with publish(folder, step, keep=keep) as staging:
        (staging / "adapter").mkdir()
        (staging / "adapter" / "weights").write_bytes(bytes([step]) * 100)
        (staging / "state.json").write_text("{}")


def test_the_newest_are_kept(tmp_path):
    for step in (3, 10, 20):
        write(tmp_path, step)
    assert [step_of(path) for path in checkpoint_folders(tmp_path)] == [10, 20]
    verify(checkpoint_folders(tmp_path)[-1])


def test_a_failure_while_writing_publishes_nothing(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(OSError, match="full"), publish(tmp_path, 2, keep=2) as staging:
        (staging / "state.json").write_text("{}")
        raise OSError("disk full")
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_an_unpublished_folder_is_never_used(tmp_path):
    (tmp_path / "step-7").mkdir()
    (tmp_path / ".step-8.abc").mkdir()
    assert checkpoint_folders(tmp_path) == []


@pytest.mark.parametrize("damage", ["flip", "delete", "manifest"])
def test_damage_is_named(tmp_path, damage):
    write(tmp_path, 5)
    checkpoint = checkpoint_folders(tmp_path)[0]
    weights = checkpoint / "adapter" / "weights"
    if damage == "flip":
        weights.write_bytes(b"\x00" + weights.read_bytes()[1:])
    elif damage == "delete":
        weights.unlink()
    else:
        (checkpoint / "files.json").write_text("{")
    with pytest.raises(UserError) as caught:
        verify(checkpoint)
    assert ("files.json" if damage == "manifest" else "weights") in str(caught.value)
    assert "resume=never" in str(caught.value)
    assert len(caught.value.faults) == 1
