"""Marks: parsing, multiset matching, metrics."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from task_samples import sentence, task_config

from adapter_exp.tasks.nerus import NerusExample, NerusTask
from adapter_exp.tasks.protocol import Answer, Outcome

TYPES = ("PER", "LOC", "ORG")
TASK = NerusTask(task_config("nerus"))

words = st.text(st.characters(codec="utf-8", exclude_characters="[]\x00", exclude_categories=("Cs", "Cc")), min_size=1)
texts = words.map(lambda text: " ".join(text.split())).filter(bool)
marks = st.tuples(st.sampled_from(TYPES), texts)
gold_sets = st.lists(marks, max_size=5).map(tuple)


def example(*gold: tuple[str, str]) -> NerusExample:
    return NerusExample(id="0_0", group="0", text="...", marks=gold)


def score(gold, text: str) -> Outcome:
    return TASK.score(example(*gold), [Answer(texts=(text,))])


def metrics(*outcomes: Outcome) -> dict[str, float]:
    sums = {key: np.asarray(sum(o.statistics[key] for o in outcomes)) for key in outcomes[0].statistics}
    return {name: float(value) for name, value in TASK.aggregate(sums).items()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[Анна Зимина](PER) [Тула](LOC)", [["PER", "Анна Зимина"], ["LOC", "Тула"]]),
        ("[Тула](LOC),\n[Анна](PER).", [["LOC", "Тула"], ["PER", "Анна"]]),
        ("Имена: [ Анна  Зимина ] ( PER )", [["PER", "Анна Зимина"]]),
        ("[Тула](LOC)[Тула](LOC)", [["LOC", "Тула"], ["LOC", "Тула"]]),
        ("[Анна](PERSON) [Тула](LOC)", [["LOC", "Тула"]]),
        ("[Тула](LOC) нет", [["LOC", "Тула"]]),
        ("[открыта [Тула](LOC)", [["LOC", "Тула"]]),
        ("нет", []),
        ("Нет.", []),
        (" «НЕТ»!\n", []),
        ("**нет**", []),
        ("__нет__", []),
        ("В городе больше нет воды.", None),
        ("Нет, это [Москва](CITY)", None),
        ("нет нет", None),
        ("Нет, это [Тула](LOC)", [["LOC", "Тула"]]),
        ("[Анна](PERSON)", None),
        ("[Анна](per)", None),
        ("[](PER) [ ](LOC)", None),
        ("интернет", None),
        ("Анна PER", None),
        ("", None),
    ],
)
def test_parse(text, expected):
    assert TASK.parse(text) == expected


@given(gold_sets)
def test_target_parses_back(gold):
    parsed = TASK.parse(TASK.target(example(*gold)))
    assert [tuple(mark) for mark in parsed or ()] == list(gold)
    outcome = score(gold, TASK.target(example(*gold)))
    assert outcome.parsed
    assert set(metrics(outcome).values()) <= {0.0, 1.0}
    assert metrics(outcome)["exact_match"] == metrics(outcome)["macro_f1"] == 1.0


@given(st.text())
def test_parse_never_fails_and_never_guesses(text):
    parsed = TASK.parse(text)
    assert parsed is None or all(kind in TYPES and found for kind, found in parsed)
    if parsed is not None and not parsed:
        assert "нет" in text.casefold()


@given(gold_sets, gold_sets, st.randoms())
def test_matching_is_that_of_multisets(gold, found, rng):
    statistics = score(gold, TASK.target(example(*found))).statistics
    right = sum((Counter(gold) & Counter(found)).values())
    assert (statistics["tp"], statistics["fp"], statistics["fn"]) == (right, len(found) - right, len(gold) - right)
    assert statistics["exact"] == (Counter(gold) == Counter(found))
    for count in ("tp", "fp", "fn"):
        assert sum(statistics[f"{count}_{kind}"] for kind in TYPES) == statistics[count]
    shuffled = rng.sample(found, len(found))
    assert score(gold, TASK.target(example(*shuffled))).statistics == statistics


@given(st.lists(st.tuples(gold_sets, gold_sets), min_size=1, max_size=6))
def test_averaged_f1_is_at_most_the_harmonic_mean_of_the_averages(items):
    """What two numbers of the published recipe break."""
    found = metrics(*(score(gold, TASK.target(example(*answer))) for gold, answer in items))
    precision, recall = found["macro_precision"], found["macro_recall"]
    bound = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert found["macro_f1"] <= bound + 1e-9
    assert all(0.0 <= value <= 1.0 for value in found.values())


def test_golden_metrics():
    """Counted by hand: sentence 1 finds one of two and one that is not there, 2 has nothing and finds nothing, 3 does
    not parse, 4 gets the text right and the type wrong."""
    outcomes = [
        score([("PER", "Анна"), ("LOC", "Тула")], "[Анна](PER) [Маяк](ORG)"),
        score([], "нет"),
        score([("LOC", "Омск")], "не знаю"),
        score([("ORG", "Маяк")], "[Маяк](LOC)"),
    ]
    found = metrics(*outcomes)
    assert found == pytest.approx(
        {
            "micro_precision": 1 / 3,
            "micro_recall": 1 / 4,
            "micro_f1": 2 / 7,
            "per_f1": 1.0,
            "loc_f1": 0.0,
            "org_f1": 0.0,
            "macro_precision": (0.5 + 1) / 4,
            "macro_recall": (0.5 + 1) / 4,
            "macro_f1": (0.5 + 1) / 4,
            "exact_match": 1 / 4,
            "parse_rate": 3 / 4,
        }
    )
    baselines = TASK.baselines(outcomes)
    assert baselines["micro_f1"] == 0.0
    assert baselines["exact_match"] == baselines["macro_f1"] == 1 / 4


def test_unparsed_answer_is_not_right_where_there_is_nothing_to_find():
    outcome = score([], "не знаю")
    assert outcome.prediction is None
    assert metrics(outcome)["exact_match"] == metrics(outcome)["macro_f1"] == 0.0


def test_square_brackets_in_a_name(tmp_path):
    """The published data has entities with a bracket; the target must parse back to them."""
    text = "Пост [Зимин]."
    (tmp_path / "train.conllu").write_text(
        sentence(text, ("Пост", "O"), ("[", "B-PER"), ("Зимин", "I-PER"), ("]", "I-PER"), (".", "O")), encoding="utf-8"
    )
    task = NerusTask(task_config("nerus", path=str(tmp_path)))
    (item,) = task.load("train")
    assert task.target(item) == "[(Зимин)](PER)"
    assert task.score(item, [Answer(texts=(task.target(item),))]).statistics["exact"] == 1.0


def test_braces_in_a_sentence_stay_as_they_are():
    item = NerusExample(id="0", group="0", text="{text} {0}", marks=())
    assert TASK.prompt(item) == "{text} {0}"
