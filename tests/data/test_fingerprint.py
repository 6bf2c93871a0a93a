"""Item hashes and dataset fingerprints."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from task_samples import task_config

from adapter_exp.data.fingerprint import dataset_fingerprint, item_hash
from adapter_exp.tasks.nerus import NerusTask

TASK = NerusTask(task_config("nerus"))
contents = st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text()), max_size=4)


@given(contents, contents)
def test_equal_hashes_mean_equal_contents(first, second):
    assert (item_hash("t", first) == item_hash("t", second)) == (first == second)
    assert item_hash("t", dict(reversed(first.items()))) == item_hash("t", first)
    assert item_hash("u", first) != item_hash("t", first)
    assert len(item_hash("t", first)) == 16


def test_fingerprint_moves_with_items_order_and_texts():
    examples = list(TASK.load("validation"))
    base = dataset_fingerprint(TASK, examples)
    assert base == dataset_fingerprint(TASK, [replace(e, id="other", group="other") for e in examples])
    changed = [
        dataset_fingerprint(TASK, examples[1:]),
        dataset_fingerprint(TASK, examples[::-1]),
        dataset_fingerprint(TASK, [replace(examples[0], text="Снег."), *examples[1:]]),
        *(
            dataset_fingerprint(NerusTask(task_config("nerus", **change)), examples)
            for change in ({"version": 2}, {"system": "?"}, {"prompt": "{text}?"}, {"empty_answer": "пусто"})
        ),
    ]
    assert len({base, *changed}) == 1 + len(changed)
