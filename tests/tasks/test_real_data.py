"""The published data itself; skipped unless ADAPTER_EXP_TEST_DATA names the folder that holds it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from task_samples import ALL, task_config

from adapter_exp.errors import UserError
from adapter_exp.tasks.protocol import Answer
from adapter_exp.tasks.readers.conllu import read_blocks
from adapter_exp.tasks.registry import build_task

DATA = Path(os.environ.get("ADAPTER_EXP_TEST_DATA", "/nonexistent"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="ADAPTER_EXP_TEST_DATA is not set")
SPLITS = ("train", "validation", "test")


@pytest.mark.parametrize(
    ("file", "documents", "sentences", "spans"),
    [
        ("nerus/nerus_lenta.conllu.gz", 300, 3540, {"PER": 1238, "LOC": 1444, "ORG": 1352}),
        ("nerus/nerus_lenta_v1_10docs.conllu.gz", 10, 117, {"PER": 43, "LOC": 56, "ORG": 50}),
        ("factrueval/devset.conllu.gz", 122, 1603, {"PER": 728, "LOC": 960, "ORG": 732}),
    ],
)
def test_all_sentences_and_spans_are_read(file, documents, sentences, spans):
    """The numbers are those of ``zgrep -c`` for '# newdoc', '# text' and each 'Tag=B-'."""
    found = [block.parse(("PER", "LOC", "ORG")) for block in read_blocks(DATA / file)]
    assert (len({s.document for s in found}), len(found)) == (documents, sentences)
    assert Counter(span.type for s in found for span in s.spans) == spans
    assert all(s.text[span.start : span.end] == span.text for s in found for span in s.spans)


def test_nerus_splits():
    task = build_task(task_config("nerus", path=str(DATA / "nerus/nerus_lenta.conllu.gz"), **ALL))
    loaded = {split: task.load(split) for split in SPLITS}
    groups = [{e.group for e in examples} for examples in loaded.values()]
    assert len(set.union(*groups)) == sum(map(len, groups)) == 300
    assert sum(map(len, loaded.values())) + sum(task.duplicates.values()) == 3540
    for example in (e for examples in loaded.values() for e in examples):
        assert task.score(example, [Answer(texts=(task.target(example),))]).statistics["exact"] == 1.0


def test_same_document_falls_in_the_same_split_in_both_nerus_files():
    files = [DATA / "nerus" / name for name in ("nerus_lenta.conllu.gz", "nerus_lenta_v1_10docs.conllu.gz")]
    whole, part = (build_task(task_config("nerus", path=str(file), **ALL)) for file in files)
    assert {e.group for e in part.load("train")} <= {e.group for e in whole.load("train")}


def test_terra_splits():
    task = build_task(task_config("terra", path=str(DATA / "terra"), **ALL))
    train, validation, test = (task.load(split) for split in SPLITS)
    assert (len(train) + len(validation), len(test)) == (2309, 307)
    assert Counter(e.label for e in test) == {"entailment": 161, "not_entailment": 146}
    assert not {e.premise for e in train} & {e.premise for e in validation}
    assert not any('""' in e.premise + e.hypothesis for e in (*train, *validation, *test))


def test_unlabelled_terra_file_is_refused():
    with pytest.raises(UserError, match=r"test.jsonl:1: no 'label'"):
        build_task(task_config("terra", path=str(DATA / "terra/test.jsonl"))).load("test")
