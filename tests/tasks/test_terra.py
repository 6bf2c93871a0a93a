"""TERRa: reader, parsing, metrics."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_samples import ALL, task_config

from adapter_exp.errors import UserError
from adapter_exp.tasks.protocol import Answer, Outcome
from adapter_exp.tasks.readers.terra import LABELS, read_pairs, restore_quotes
from adapter_exp.tasks.registry import build_task
from adapter_exp.tasks.terra import TerraExample, TerraTask

TASK = TerraTask(task_config("terra"))
ANSWERS = {"entailment": "да", "not_entailment": "нет", None: "не знаю"}


def row(premise: str = "Идёт снег.", hypothesis: str = "Снег идёт.", label: str | None = "entailment", **more) -> str:
    return json.dumps({"premise": premise, "hypothesis": hypothesis} | ({"label": label} if label else {}) | more)


def rows(first: int, last: int) -> str:
    """Two pairs for each premise."""
    return "\n".join(
        row(f"Дом {i}.", f"Дом {i} {label}.", label, idx=2 * i + j)
        for i in range(first, last)
        for j, label in enumerate(LABELS)
    )


def terra(path: Path, **changes) -> TerraTask:
    return build_task(task_config("terra", path=str(path), **ALL, **changes))


def outcome(label: str, generated: str | None, likelier: str) -> Outcome:
    example = TerraExample(id="0", group="0", premise="", hypothesis="", label=label)
    logprobs = tuple(-1.0 if x == likelier else -2.0 for x in LABELS)
    return TASK.score(example, [Answer(texts=(ANSWERS[generated],)), Answer(logprobs=logprobs)])


def metrics(outcomes: list[Outcome]) -> dict[str, float]:
    sums = {key: np.asarray(sum(o.statistics[key] for o in outcomes)) for key in outcomes[0].statistics}
    return {name: float(value) for name, value in TASK.aggregate(sums).items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("да", "entailment"),
        (" Да.", "entailment"),
        ("**НЕТ**, не следует", "not_entailment"),
        ("«нет»\nпотому что", "not_entailment"),
        ("да да да", "entailment"),
        ("да или нет", None),
        ("нет... да", None),
        ("Ответ: да", None),
        ("дай", None),
        ("нету", None),
        ("", None),
        ("!?", None),
    ],
)
def test_parse(text, expected):
    assert TASK.parse(text) == expected


@given(st.text())
def test_parse_gives_a_label_or_nothing(text):
    label = TASK.parse(text)
    assert label in (*LABELS, None)
    if label:
        assert text.casefold().find(TASK.target(TerraExample("", "", "", "", label))) >= 0


def test_golden_one_label_only():
    """44 of 100 right where all true labels are one: what the published recipe reports."""
    found = metrics([outcome("entailment", LABELS[i >= 44], LABELS[i >= 44]) for i in range(100)])
    for way in ("generated", "loglik"):
        assert found[f"accuracy_{way}"] == 0.44
        assert found[f"macro_precision_{way}"] == 0.5
        assert found[f"macro_recall_{way}"] == 0.22
        assert found[f"macro_f1_{way}"] == pytest.approx(0.3056, abs=5e-5)


@given(
    st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, None]), st.sampled_from(LABELS)), min_size=1)
)
def test_metrics_are_those_of_scikit_learn(items):
    """An unparsed answer is a predicted class outside ``labels``: it costs recall and is not averaged over."""
    sklearn = pytest.importorskip("sklearn.metrics")
    found = metrics([outcome(*item) for item in items])
    truth = [label for label, _, _ in items]
    for way, answers in (("generated", [g or "unparsed" for _, g, _ in items]), ("loglik", [x for *_, x in items])):
        expected = sklearn.precision_recall_fscore_support(
            truth, answers, labels=LABELS, average="macro", zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
            assert found[f"macro_{name}_{way}"] == pytest.approx(value)
        assert found[f"accuracy_{way}"] == pytest.approx(sklearn.accuracy_score(truth, answers))
    assert found["parse_rate"] == pytest.approx(np.mean([g is not None for _, g, _ in items]))


def test_unparsed_answers_are_no_label():
    found = metrics(
        [outcome("not_entailment", None, "entailment")] * 3 + [outcome("entailment", "entailment", "entailment")]
    )
    assert found["accuracy_generated"] == 0.25
    assert found["macro_precision_generated"] == 0.5
    assert found["macro_recall_generated"] == 0.5
    assert found["parse_rate"] == 0.25


def test_majority_baseline():
    outcomes = [outcome("entailment", None, "entailment")] + [outcome("not_entailment", None, "entailment")] * 3
    baselines = TASK.baselines(outcomes)
    assert baselines["accuracy_loglik"] == baselines["accuracy_generated"] == 0.75
    assert baselines["macro_recall_loglik"] == 0.5


@pytest.mark.parametrize(
    "labels", [{"entailment": "да", "not_entailment": "Да"}, {"entailment": "да", "not_entailment": "не следует"}]
)
def test_label_words_must_be_two_single_words(labels):
    with pytest.raises(ValueError, match="labels"):
        task_config("terra", labels=labels)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('"Газета ""Маяк"" вышла."', 'Газета "Маяк" вышла.'),
        ('"""Маяк"" вышел."', '"Маяк" вышел.'),
        ('"Просто цитата"', "Просто цитата"),
        ('"Маяк" и "Заря"', '"Маяк" и "Заря"'),
        ('Газета "Маяк"', 'Газета "Маяк"'),
        ('"', '"'),
    ],
)
def test_csv_quotes_are_undone(text, expected):
    assert restore_quotes(text) == expected


@given(st.text())
def test_any_quoted_text_is_restored(text):
    assert restore_quotes('"' + text.replace('"', '""') + '"') == text.strip()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"data.jsonl:2: not JSON \(.* at column 2\)"),
        ("[1]", r"data.jsonl:2: a JSON list instead of an object"),
        (
            json.dumps({"premise": "А", "label": "entailment"}),
            r"data.jsonl:2: no text in 'hypothesis' \(fields found: premise, label\)",
        ),
        (row(premise=" "), r"data.jsonl:2: no text in 'premise'"),
        (row(label="entailmnt"), r"data.jsonl:2: unknown label 'entailmnt'. Did you mean 'entailment'\?"),
        (row(label=None), r"data.jsonl:2: no 'label': unlabelled rows cannot be scored"),
    ],
)
def test_each_fault_names_file_and_line(tmp_path, line, message):
    path = tmp_path / "data.jsonl"
    path.write_text(row() + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        list(read_pairs(path))


def test_other_faults_of_a_file(tmp_path):
    path = tmp_path / "data.jsonl"
    with pytest.raises(UserError, match="no such file"):
        terra(path).load("train")
    path.write_text("\n\n", encoding="utf-8")
    with pytest.raises(UserError, match="no rows"):
        list(read_pairs(path))
    path.write_bytes('{"premise": "Снег"}'.encode("cp1251"))
    with pytest.raises(UserError, match=r"data.jsonl:1: not UTF-8"):
        list(read_pairs(path))


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def test_published_folder(tmp_path):
    """val is the test split, validation is cut from train by premise, the unlabelled test file is not read."""
    path = folder(tmp_path, train=rows(0, 200), val=rows(200, 220), test=row(label=None))
    task = terra(path)
    train, validation, test = (task.load(split) for split in ("train", "validation", "test"))
    assert (len(train) + len(validation), len(test)) == (400, 40)
    assert 10 <= len(validation) <= 80
    assert not {e.premise for e in train} & {e.premise for e in validation}
    assert {e.premise for e in terra(path, split_seed=1).load("validation")} != {e.premise for e in validation}


def test_validation_file_is_used_where_there_is_one(tmp_path):
    task = terra(folder(tmp_path, train=rows(0, 20), validation=rows(20, 25), val=rows(25, 30)))
    assert [len(task.load(split)) for split in ("train", "validation", "test")] == [40, 10, 10]


def test_labelled_test_file(tmp_path):
    assert len(terra(folder(tmp_path, train=rows(0, 20), test=rows(20, 25))).load("test")) == 10


def test_missing_file_in_a_folder(tmp_path):
    path = folder(tmp_path, train=rows(0, 20))
    with pytest.raises(UserError, match=r"no val.jsonl or test.jsonl; found: train.jsonl"):
        terra(path).load("test")


def test_zip_gives_what_the_folder_gives(tmp_path):
    path = folder(tmp_path, train=rows(0, 60), val=rows(60, 70))
    archive = tmp_path / "TERRa.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for name in ("train", "val"):
            zipped.write(path / f"{name}.jsonl", f"TERRa/{name}.jsonl")
    for split in ("train", "validation", "test"):
        assert terra(archive).load(split) == terra(path).load(split)
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"TERRa.zip: damaged zip"):
        terra(archive).load("train")


def test_fault_inside_a_zip_names_member_and_line(tmp_path):
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("TERRa/val.jsonl", row() + "\n{")
    with pytest.raises(UserError, match=r"data.zip/TERRa/val.jsonl:2: not JSON"):
        terra(archive).load("test")


def test_single_file_is_split_by_premise(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(rows(0, 100), encoding="utf-8")
    premises = [{e.premise for e in terra(path).load(split)} for split in ("train", "validation", "test")]
    assert len(set.union(*premises)) == sum(map(len, premises)) == 100


def test_equal_pairs_are_dropped_and_counted(tmp_path):
    task = terra(folder(tmp_path, train=row(), validation=row(), val="\n".join([row(), row(idx=1), row(premise="А")])))
    assert len(task.load("test")) == 2
    assert task.duplicates["test"] == 1
