"""The samples that ship with the package: made by the generator, disjoint, balanced, short."""

from __future__ import annotations

import gzip
import re
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from task_samples import ALL, task_config

from adapter_exp.data.bundled import bundled_path
from adapter_exp.data.samples.names import NAMES
from adapter_exp.data.samples.news import TEMPLATES, WITHOUT_ENTITIES
from adapter_exp.tasks.registry import build_task

SPLITS = ("train", "validation", "test")
NERUS = build_task(task_config("nerus", **ALL))
TERRA = build_task(task_config("terra", **ALL))
SENTENCES = {s: {e.text for e in NERUS.load(s)} for s in SPLITS}
PAIR_SENTENCES = {s: {t for e in TERRA.load(s) for t in (e.premise, e.hypothesis)} for s in SPLITS}


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(file for file in folder.rglob("*") if file.name.endswith((".gz", ".jsonl")))
    return {
        str(file.relative_to(folder)): gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        for file in found
    }


def test_generator_writes_what_is_committed(tmp_path):
    pytest.importorskip("pymorphy3")
    from adapter_exp.data.samples.generate import write

    write(tmp_path)
    assert files(tmp_path) == files(bundled_path("nerus").parent)
    assert len(files(tmp_path)) == 6


def test_samples_are_small():
    folder = bundled_path("nerus").parent
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.suffix != ".py") < 200_000


@pytest.mark.parametrize("pair", list(combinations(SPLITS, 2)), ids="-".join)
def test_splits_share_no_sentence_template_or_name(pair):
    first, second = pair
    for kind in (SENTENCES, PAIR_SENTENCES, TEMPLATES, WITHOUT_ENTITIES):
        assert not set(kind[first]) & set(kind[second])
    for field in NAMES["train"].__dataclass_fields__:
        assert not set(getattr(NAMES[first], field)) & set(getattr(NAMES[second], field)), field
    # Whatever its case, an entity of one split is in no sentence of another.
    spans = [{text for e in NERUS.load(split) for _, text in e.marks} for split in pair]
    assert not spans[0] & spans[1]
    assert not {e.group for e in NERUS.load(first)} & {e.group for e in NERUS.load(second)}


@pytest.mark.parametrize("split", SPLITS)
def test_news_are_short_and_varied(split):
    examples = NERUS.load(split)
    lengths = sorted(len(e.text) for e in examples)
    assert lengths[0] >= 20
    assert lengths[-1] <= 75
    without = sum(not e.marks for e in examples) / len(examples)
    assert 0.10 <= without <= 0.15
    assert max(len(e.marks) for e in examples) <= 3
    kinds = Counter(kind for e in examples for kind, _ in e.marks)
    assert min(kinds.values()) > 0.2 * sum(kinds.values())
    sizes = Counter(e.group for e in examples).values()
    assert min(sizes) >= 3


@pytest.mark.parametrize("split", SPLITS)
def test_sentences_are_well_formed(split):
    for text in SENTENCES[split] | PAIR_SENTENCES[split]:
        assert re.fullmatch(r"[А-ЯЁ][А-Яа-яЁё0-9 «»,—-]+[.]", text), text
        assert "  " not in text
        assert text.count("«") == text.count("»")
        assert not re.search(r"\b[Вв] (?:В|Ф)[бвгджзклмнпрстфхцчшщ]", text), f"во: {text}"


@pytest.mark.parametrize("split", SPLITS)
def test_entailment_is_balanced_within_every_premise(split):
    labels: dict[str, list[str]] = {}
    for example in TERRA.load(split):
        labels.setdefault(example.premise, []).append(example.label)
    assert all(sorted(found) == ["entailment", "not_entailment"] for found in labels.values())


def test_entities_of_the_default_draw_are_like_those_of_the_sample():
    drawn = build_task(task_config("nerus")).load("train")
    shares = []
    for examples in (drawn, NERUS.load("train")):
        kinds = Counter(kind for e in examples for kind, _ in e.marks)
        shares.append([kinds[kind] / len(examples) for kind in ("PER", "LOC", "ORG")])
    assert shares[0] == pytest.approx(shares[1], abs=0.1)
