"""The report's sentences in English and Russian. Numbers come in as strings, so both languages show the same ones."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from adapter_exp.comparison.model import Reason
from adapter_exp.errors import UserError
from adapter_exp.report import words
from adapter_exp.report.document import plain
from adapter_exp.report.numbers import DASH, SPACE, compact, exists, score, whole

LANGUAGES = ("en", "ru")
HASH_DIGITS = 12


@dataclass(frozen=True)
class Texts:
    """One language.

    Attributes:
        sentences: by key, with named placeholders.
        nouns: by key, the forms that a number asks for: (one, many) in English, (one, few, many) in Russian.
    """

    language: str
    sentences: Mapping[str, str]
    nouns: Mapping[str, tuple[str, ...]]

    def __call__(self, key: str, **values: Any) -> str:
        """The sentence ``key`` with its placeholders filled."""
        return self.sentences[key].format(**values)

    def count(self, noun: str, number: int) -> str:
        """``3 runs``, ``1 run``; in Russian ``3 запуска``, ``5 запусков``."""
        forms = self.nouns[noun]
        return f"{whole(number)}{SPACE}{forms[russian_form(number) if len(forms) == 3 else number != 1]}"

    def join(self, names: Sequence[str], *, limit: int = 6) -> str:
        """``a, b and c``; beyond ``limit`` the rest is counted: ``a, b and 12 more``."""
        shown = [plain(name) for name in names]
        if len(shown) > limit + 1:
            shown = [*shown[:limit], self("more", number=len(names) - limit)]
        if len(shown) < 2:
            return "".join(shown)
        return self("list_end", first=", ".join(shown[:-1]), last=shown[-1])

    def duration(self, seconds: float | None) -> str:
        """``8.4 s``, ``3 min 15 s`` or ``2 h 05 min``, in the language's units."""
        if not exists(seconds):
            return compact(None)
        return self._in_own_units(words.duration(seconds))

    def size(self, count_bytes: float | None) -> str:
        """Bytes in binary units: ``1.8 GiB``."""
        if not exists(count_bytes):
            return compact(None)
        return self._in_own_units(words.size(count_bytes))

    def _in_own_units(self, english: str) -> str:
        return SPACE.join(self.sentences.get(f"unit.{part.lower()}", part) for part in english.split())

    def reason(self, reason: Reason) -> str:
        """The sentence of a ``Reason``; one that has none, or lacks fit values, is told by its English text."""
        template = self.sentences.get(f"reason.{reason.code}")
        if template is not None:
            try:
                told = ReasonFormatter(self.sentences).vformat(template, (), reason.values)
                return told.replace(f" ({DASH})", "")  # what is not known needs no parentheses
            except (
                KeyError,
                TypeError,
                ValueError,
                OverflowError,
            ):  # a record of an earlier version, or one edited by hand
                pass
        return plain(reason.values.get("text") or reason.code)


class ReasonFormatter(string.Formatter):
    """Fills a sentence with values out of records; ``{limit:percent}`` says how a value is shown.

    Ways: ``score``, ``percent``, ``whole``, ``hash`` (its beginning). Without one a value is shown as in tables.
    """

    _WAYS: Mapping[str, Callable[[Any], str]] = {
        "": compact,
        "score": score,
        "percent": lambda value: f"{value:.0%}",
        "whole": whole,
        "hash": lambda value: str(value)[:HASH_DIGITS],
    }

    def __init__(self, sentences: Mapping[str, str]) -> None:
        self._sentences = sentences

    def format_field(self, value: Any, format_spec: str) -> str:
        """``value`` in the way that ``format_spec`` names; each value of a list, and of a mapping with its key."""
        if isinstance(value, Mapping):
            return "; ".join(f"{self._word(key)} {self.format_field(one, format_spec)}" for key, one in value.items())
        if isinstance(value, list | tuple):
            return ", ".join(self.format_field(one, format_spec) for one in value)
        return self._word(self._WAYS[format_spec](value))

    def _word(self, text: Any) -> str:
        """The language's word for a word of the records (``base``, ``special``); any other text as it is."""
        return self._sentences.get(f"word.{text}", plain(text))


def russian_form(number: int) -> int:
    """Which of (one, few, many) goes with ``number``: 1, 21, 31; 2 to 4, 22 to 24; all others and 11 to 14."""
    if number % 100 in range(11, 15):
        return 2
    return 0 if number % 10 == 1 else 1 if number % 10 in (2, 3, 4) else 2


def texts(language: str) -> Texts:
    """The catalog of ``language``.

    Raises:
        UserError: for a language that has none.
    """
    if language not in LANGUAGES:
        raise UserError(f"--lang: '{plain(language)}' is unknown; use one of: {', '.join(LANGUAGES)}.")
    catalog = import_module(f"{__name__}.{language}")
    return Texts(language, catalog.SENTENCES, catalog.NOUNS)
