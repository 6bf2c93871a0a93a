"""The two catalogs: the same keys and placeholders, and sentences for everything that a comparison can say."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

import adapter_exp
from adapter_exp.comparison.model import Reason
from adapter_exp.errors import UserError
from adapter_exp.report.texts import LANGUAGES, texts

PACKAGE = Path(adapter_exp.__file__).parent


def placeholders(template: str) -> list[tuple[str | None, str | None]]:
    return sorted((name or "", way or "") for _, name, way, _ in Formatter().parse(template) if name is not None)


def test_both_catalogs_say_the_same_things():
    english, russian = (texts(language) for language in LANGUAGES)
    assert english.sentences.keys() == russian.sentences.keys()
    assert english.nouns.keys() == russian.nouns.keys()
    differing = [
        key for key, text in english.sentences.items() if placeholders(text) != placeholders(russian.sentences[key])
    ]
    assert differing == []


def test_numbers_that_stand_in_the_sentences_are_equal_in_both():
    english, russian = (texts(language).sentences for language in LANGUAGES)
    numbers = re.compile(r"\d+(?:\.\d+)?")
    assert {k for k in english if sorted(numbers.findall(english[k])) != sorted(numbers.findall(russian[k]))} == set()


def test_russian_is_russian():
    letters = {key: re.sub(r"\{.*?\}", "", text) for key, text in texts("ru").sentences.items()}
    same = {key for key, text in letters.items() if re.search("[A-Za-z]", text) and not re.search("[А-Яа-я]", text)}
    assert same == {
        "adapters.r",
        "adapters.alpha",
        "adapters.dropout",
        "column.seeds",
        "gates.seeds",
        "setup.runs_seeds",
    }


def codes() -> set[str]:
    """Codes of reasons in the sources of the comparison, and names of gates."""
    sources = [*PACKAGE.glob("comparison/*.py"), *PACKAGE.glob("evaluation/*gates.py")]
    made = re.compile(r"\b(?:_RefusedError|reason|Reason|Gate|_too_few)\(\s*\"(\w+)\"")
    return {code for file in sources for code in made.findall(file.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_and_gate_has_a_sentence(language):
    found = codes()
    assert len(found) > 35, "the pattern above no longer finds the codes"
    assert {code for code in found if f"reason.{code}" not in texts(language).sentences} == set()


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (1, "1 запуск"),
        (2, "2 запуска"),
        (5, "5 запусков"),
        (11, "11 запусков"),
        (21, "21 запуск"),
        (112, "112 запусков"),
    ],
)
def test_russian_plurals(number, shown):
    assert texts("ru").count("run", number).replace("\u00a0", " ") == shown


def test_english_plurals_and_lists():
    t = texts("en")
    assert [t.count("run", n).replace("\u00a0", " ") for n in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert (t.join([]), t.join(["a"]), t.join(["a", "b"]), t.join("abc")) == ("", "a", "a and b", "a, b and c")
    assert t.join([str(n) for n in range(20)], limit=3) == "0, 1, 2 and 17 more"


def test_units():
    english, russian = texts("en"), texts("ru")
    assert english.duration(8.44).replace("\u00a0", " ") == "8.4 s"
    assert russian.duration(195).replace("\u00a0", " ") == "3 мин 15 с"
    assert english.duration(7500).replace("\u00a0", " ") == "2 h 05 min"
    assert russian.size(1_932_735_283).replace("\u00a0", " ") == "1.8 ГиБ"
    assert english.duration(None) == english.size(float("nan")) == "–"


def test_a_reason_is_told_with_its_values_in_each_language():
    reason = Reason("majority", {"metric": "f1", "score": 1 / 3, "trivial": 0.5, "text": "english"})
    assert texts("en").reason(reason) == "f1 is 0.3333, the best trivial answer reaches 0.5000"
    assert texts("ru").reason(reason) == "f1 = 0.3333, лучший тривиальный ответ даёт 0.5000"
    seeds = Reason("seeds_differ", {"seeds": {"lora": (0, 1), "mlp": (0,)}})
    assert texts("en").reason(seeds).endswith("lora 0, 1; mlp 0")
    parsed = Reason("parse_failures", {"unparsed": 9, "items": 40, "limit": 0.2})
    assert texts("ru").reason(parsed).endswith("9 из 40 (предел 20%)")


def test_a_reason_without_values_or_sentence_is_told_in_english():
    """Gates of records that an earlier version wrote hold a text and no values."""
    assert texts("ru").reason(Reason("majority", {"text": "f1 is 0.2"})) == "f1 is 0.2"
    assert texts("ru").reason(Reason("of_a_later_version", {"text": "what it is"})) == "what it is"
    assert texts("ru").reason(Reason("of_a_later_version")) == "of_a_later_version"


@pytest.mark.parametrize("odd", ["high", None, [1, 2], {"a": "b"}, 10**400])
def test_a_reason_with_values_of_another_kind_is_told_all_the_same(odd):
    """Records can be edited by hand."""
    values = {"unparsed": odd, "items": odd, "limit": odd, "before": odd, "after": odd, "score": odd, "trivial": odd}
    for code in ("parse_failures", "majority", "base_changed", "bytes_mismatch"):
        told = texts("ru").reason(Reason(code, {**values, "metric": "f1", "text": "english"}))
        assert told == "english" or "\n" not in told


def test_what_a_run_did_not_say_leaves_no_empty_parentheses():
    for language, words in (("en", "did not end well: cancelled"), ("ru", "не завершился как надо: отменено")):
        told = texts(language).reason(Reason("not_finished", {"status": "cancelled", "error": None}))
        assert told.endswith(words)
    failed = Reason("not_finished", {"status": "failed", "error": "ValueError: x"})
    assert texts("ru").reason(failed).endswith("сбой (ValueError: x)")
    assert texts("ru").reason(Reason("no_record", {"state": "oom"})).endswith("не хватило памяти)")


def test_values_of_a_reason_are_text_and_nothing_else():
    hostile = "{items} \x1b[31m\n{0.__class__}"
    told = texts("en").reason(Reason("other_documents", {"task": hostile}))
    assert told.startswith("{items} \\x1b[31m\\n{0.__class__}: ")


def test_an_unknown_language_names_the_known_ones():
    with pytest.raises(UserError, match="'de' is unknown; use one of: en, ru"):
        texts("de")
