"""Training rows: kept on disk, equal to fresh ones, refused when nothing can be learned from them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from task_samples import task_config

from adapter_exp.data.rendering import Renderer
from adapter_exp.data.statistics import split_statistics
from adapter_exp.data.tokenised import tokenise
from adapter_exp.errors import UserError
from adapter_exp.tasks.nerus import NerusTask

TASK = NerusTask(task_config("nerus", max_train=12))


class Counting(Renderer):
    """Counts what it tokenises."""

    calls = 0

    def training_row(self, user, target):
        self.calls += 1
        return super().training_row(user, target)


def renderer(tokenizer, max_length=1024, **changes) -> Counting:
    return Counting(tokenizer, **({"system": TASK.system, "chat": True, "max_length": max_length} | changes))


def rows(tokenizer, cache_dir, examples=None, sha="a", **changes):
    """The rows and how many had to be computed."""
    render = renderer(tokenizer, **changes)
    found = tokenise(TASK, examples or TASK.load("train"), render, tokenizer_sha256=sha, cache_dir=cache_dir)
    return found, render.calls


def test_second_call_reads_what_the_first_one_wrote(tiny_tokenizer, tmp_path):
    fresh, computed = rows(tiny_tokenizer, None)
    assert rows(tiny_tokenizer, tmp_path) == (fresh, computed)
    assert rows(tiny_tokenizer, tmp_path) == (fresh, 0)
    assert [file.suffix for file in (tmp_path / "tokenised").iterdir()] == [".npz"]


@pytest.mark.parametrize(
    "change",
    [{"sha": "b"}, {"max_length": 900}, {"chat": False}, {"system": "другая"}],
    ids=lambda change: next(iter(change)),
)
def test_whatever_can_change_a_row_changes_the_key(tiny_tokenizer, tmp_path, change):
    rows(tiny_tokenizer, tmp_path)
    assert rows(tiny_tokenizer, tmp_path, **change)[1] == 12


def test_other_items_have_their_own_rows(tiny_tokenizer, tmp_path):
    rows(tiny_tokenizer, tmp_path)
    examples = [replace(TASK.load("train")[0], text="Снег."), *TASK.load("train")[1:]]
    found, computed = rows(tiny_tokenizer, tmp_path, examples)
    assert computed == 12
    assert found[1:] == rows(tiny_tokenizer, None)[0][1:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-30],
        lambda data: data[: len(data) // 2],
        lambda data: b"x" * len(data),
        lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    ],
    ids=["empty", "cut", "half", "rubbish", "one bit"],
)
def test_damaged_cache_is_computed_again(tiny_tokenizer, tmp_path, damage):
    fresh, _ = rows(tiny_tokenizer, tmp_path)
    (file,) = (tmp_path / "tokenised").iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert rows(tiny_tokenizer, tmp_path) == (fresh, 12)
    assert rows(tiny_tokenizer, tmp_path) == (fresh, 0)


def test_pickle_in_the_cache_is_not_run(tiny_tokenizer, tmp_path):
    import numpy as np

    rows(tiny_tokenizer, tmp_path)
    (file,) = (tmp_path / "tokenised").iterdir()
    arrays = dict(np.load(file))
    np.savez(file, **(arrays | {"ids": np.array([print], dtype=object)}))
    assert rows(tiny_tokenizer, tmp_path)[1] == 12


def test_prompt_without_room_for_an_answer_is_refused(tiny_tokenizer, tmp_path):
    longest = max(row.prompt_tokens for row in rows(tiny_tokenizer, None)[0])
    with pytest.raises(UserError, match=rf"item 'train_\d+_\d' has {longest} tokens, the limit is {longest}") as caught:
        rows(tiny_tokenizer, tmp_path, max_length=longest)
    assert all("model.max_length" in fault for fault in caught.value.faults)
    assert not (tmp_path / "tokenised").exists()
    found, _ = rows(tiny_tokenizer, tmp_path, max_length=longest + 1)
    assert any(row.truncated for row in found)


def test_only_the_first_faults_are_listed(tiny_tokenizer):
    with pytest.raises(UserError, match="7 more items like these") as caught:
        rows(tiny_tokenizer, None, max_length=8)
    assert len(caught.value.faults) == 6


def test_empty_target_is_refused(tiny_tokenizer):
    class Silent(NerusTask):
        def target(self, example):
            return " "

    task = Silent(task_config("nerus", max_train=1))
    with pytest.raises(UserError, match="has an empty target"):
        tokenise(task, task.load("train"), renderer(tiny_tokenizer), tokenizer_sha256="a", cache_dir=None)


def test_statistics_count_what_is_there(tiny_tokenizer):
    examples = TASK.load("train")
    found, _ = rows(tiny_tokenizer, None)
    limit = max(len(row.ids) for row in found) - 1
    cut, _ = rows(tiny_tokenizer, None, max_length=limit)
    statistics = split_statistics(TASK, examples, cut, tiny_tokenizer)
    assert (statistics["items"], statistics["groups"]) == (12, len({e.group for e in examples}))
    assert statistics["truncated"] == sum(len(row.ids) > limit for row in found) >= 1
    assert statistics["truncated_share"] == statistics["truncated"] / 12
    assert statistics["characters"]["total"] == sum(len(TASK.prompt(e) + TASK.target(e)) for e in examples)
    assert statistics["raw_tokens"]["total"] == sum(len((TASK.prompt(e) + TASK.target(e)).encode()) for e in examples)
    assert statistics["characters_per_token"] == pytest.approx(
        statistics["characters"]["total"] / statistics["raw_tokens"]["total"]
    )
    assert statistics["tokens"]["max"] == limit
    assert statistics["tokens"]["total"] == sum(len(row.ids) for row in cut)
    assert statistics["labels"] is None


def test_label_balance(tiny_tokenizer):
    from adapter_exp.tasks.terra import TerraTask

    task = TerraTask(task_config("terra", max_eval=None))
    examples = task.load("test")
    render = renderer(tiny_tokenizer, system=task.system)
    found = tokenise(task, examples, render, tokenizer_sha256="a", cache_dir=None)
    assert split_statistics(task, examples, found, tiny_tokenizer)["labels"] == {"да": 60, "нет": 60}
