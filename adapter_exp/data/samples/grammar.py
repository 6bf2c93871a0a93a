"""Russian case endings and the filling of sentence templates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, Generic, Literal, TypeVar

from adapter_exp.data.samples.names import Names
from adapter_exp.tasks.readers.conllu import Span

T = TypeVar("T")
Gender = Literal["masc", "femn"]
CASES = ("nomn", "gent", "datv", "accs", "ablt", "loct")

# Endings of surnames in CASES' order, by the nominative's ending.
_NOUN_ENDINGS = {"masc": ("", "а", "у", "а", "ым", "е"), "femn": ("а", "ой", "ой", "у", "ой", "ой")}
_ADJECTIVE_ENDINGS = {"masc": ("ий", "ого", "ому", "ого", "им", "ом"), "femn": ("ая", "ой", "ой", "ую", "ой", "ой")}
_HARD_ENDINGS = ("", "а", "у", "", "ом", "е")

# {P.gent}, {P2.nomn}, {O}, {стал/стала} (gender of person 1), {2:дал/дала} (gender of person 2)
_SLOT = re.compile(
    r"\{(?:(?P<kind>[PSLCOANM])(?P<index>2?)(?:\.(?P<case>\w+))?|(?P<second>2:)?(?P<m>\w+)/(?P<f>\w+))\}"
)
_TYPES = {"P": "PER", "S": "PER", "L": "LOC", "C": "LOC", "O": "ORG", "A": "ORG"}


@dataclass(frozen=True)
class Person:
    """An invented person; ``surname`` is the masculine nominative."""

    first_name: str
    surname: str
    gender: Gender


class Deck(Generic[T]):
    """Deals its cards in a random order, all of them before any again."""

    def __init__(self, cards: Sequence[T], rng: Random) -> None:
        self._cards, self._rng = list(cards), rng
        self._rest: list[T] = []

    def deal(self) -> T:
        """The next card."""
        if not self._rest:
            self._rest = self._rng.sample(self._cards, len(self._cards))
        return self._rest.pop()


class Filler:
    """Fills the slots of templates; ``bind`` starts an item, all templates filled after it share its entities."""

    def __init__(self, names: Names, rng: Random) -> None:
        men: list[tuple[str, Gender]] = [(name, "masc") for name in names.men]
        women: list[tuple[str, Gender]] = [(name, "femn") for name in names.women]
        self._first_names = Deck([*men, *women], rng)
        self._decks = {
            "S": Deck(names.surnames, rng),
            "L": Deck(names.cities, rng),
            "C": Deck(names.countries, rng),
            "O": Deck(names.companies, rng),
            "A": Deck(names.agencies, rng),
            "N": Deck(names.numbers, rng),
        }
        self._bound: dict[str, Any] = {}

    def bind(self) -> None:
        """Forget the entities of the item before."""
        self._bound = {}

    def fill(self, template: str) -> tuple[str, tuple[Span, ...]]:
        """The sentence and its entities."""
        text, spans, last = "", [], 0
        # A verb may stand before its person: bind first, then write.
        for slot in _SLOT.finditer(template):
            if slot["kind"]:
                self._entity(slot["kind"], slot["index"])
        for slot in _SLOT.finditer(template):
            text += template[last : slot.start()]
            word = self._word(slot)
            if slot["kind"] in _TYPES:
                spans.append(Span(_TYPES[slot["kind"]], len(text), len(text) + len(word), word))
            text, last = text + word, slot.end()
        text += template[last:]
        assert "{" not in text, f"a slot of '{template}' is not understood"
        return text, tuple(spans)

    def _word(self, slot: re.Match[str]) -> str:
        if not slot["kind"]:
            person = self._bound["P2" if slot["second"] else "P"]
            return slot["m"] if person.gender == "masc" else slot["f"]
        entity, case = self._entity(slot["kind"], slot["index"]), slot["case"]
        match slot["kind"]:
            case "P":
                return f"{inflect(entity.first_name, 'Name', case, entity.gender)} {_surname(entity, case)}"
            case "S":
                return _surname(entity, case)
            case "L" | "C":
                return inflect(entity, "Geox", case)
            case "A":
                return _agency(entity, case)
        return str(entity)

    def _entity(self, kind: str, index: str) -> Any:
        key = ("P" if kind == "S" else kind) + index
        if key not in self._bound:
            self._bound[key] = self._new(kind)
        return self._bound[key]

    def _new(self, kind: str) -> Any:
        if kind in "PS":
            first_name, gender = self._first_names.deal()
            return Person(first_name, str(self._decks["S"].deal()), gender)
        deck = self._decks["N" if kind == "M" else kind]
        entity = deck.deal()
        while entity in self._bound.values():
            entity = deck.deal()
        return entity


@cache
def _analyzer() -> Any:
    from pymorphy3 import MorphAnalyzer

    return MorphAnalyzer()


@cache
def inflect(word: str, grammeme: str, case: str, gender: Gender | None = None) -> str:
    """``word``, a singular nominative that the dictionary marks with ``grammeme``, in ``case``.

    Raises:
        ValueError: if the dictionary does not know the word so.
    """
    wanted = {grammeme, "nomn", *([gender] if gender else [])}
    for reading in _analyzer().parse(word):
        if reading.is_known and wanted <= reading.tag.grammemes and "plur" not in reading.tag.grammemes:
            form = reading.inflect({case, "sing"}) if "Fixd" not in reading.tag.grammemes else reading
            if form is not None:
                return str(form.word.capitalize())
    raise ValueError(f"'{word}' is not in the dictionary as {sorted(wanted)}")


def _surname(person: Person, case: str) -> str:
    stem, endings = person.surname, _NOUN_ENDINGS
    if stem.endswith("ий"):
        stem, endings = stem.removesuffix("ий"), _ADJECTIVE_ENDINGS
    return stem + endings[person.gender][CASES.index(case)]


def _agency(name: str, case: str) -> str:
    """An acronym stays as it is; a syllabic name (Минздрав) is a masculine noun."""
    return name if name.isupper() else name + _HARD_ENDINGS[CASES.index(case)]
