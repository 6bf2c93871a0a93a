"""A report as plain values: made once for each language, then shown as text, Markdown or HTML.

Numbers are strings here, so that no format can round them in its own way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Tone = Literal["good", "bad", "warn", "muted"]
"""How a text is coloured where there are colours; the words say the same without them."""

_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def plain(value: Any) -> str:
    """``value`` as one line of printable text: control characters and changes of direction are escaped.

    Everything that comes out of a record goes through here: a name may hold line feeds or terminal codes.
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(value))


def file_name(text: str) -> str:
    """``text`` as a part of a file's name: letters, digits, ``.``, ``_`` and ``-``; never empty or hidden."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-") or "x"


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        extra: a second, less important text (an interval); beside the first or below it, as there is room.
    """

    text: str
    extra: str = ""
    tone: Tone | None = None
    strong: bool = False


@dataclass(frozen=True)
class Column:
    """A column; ``key`` columns name the rows: they may wrap, and are repeated where a wide table is cut."""

    title: str
    align: Literal["left", "right"] = "right"
    key: bool = False


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as there are columns.

    Attributes:
        caption: what the table shows.
        notes: lines below it: marks, units.
        ends: numbers of the rows that end a block.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    notes: tuple[str, ...] = ()
    ends: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"a table of {len(self.columns)} columns has a row of another length: {self.caption!r}")


@dataclass(frozen=True)
class Facts:
    """Pairs of a label and a text."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Paragraph:
    """A paragraph."""

    text: str
    tone: Tone | None = None


@dataclass(frozen=True)
class Bullets:
    """A list without numbers."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A picture, drawn only when a format shows it.

    Attributes:
        name: of its file, without the ending.
        draw: makes the matplotlib figure.
    """

    name: str
    caption: str
    draw: Callable[[], Any] = field(compare=False)


Block = Table | Facts | Paragraph | Bullets | Figure


@dataclass(frozen=True)
class Section:
    """A heading with what stands below it; ``sections`` are one level deeper."""

    title: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True)
class Document:
    """A whole report in one language (``en`` or ``ru``)."""

    title: str
    language: str
    intro: tuple[Block, ...]
    sections: tuple[Section, ...]

    def walk(self) -> Iterator[Section]:
        """All sections, in reading order."""
        waiting = list(reversed(self.sections))
        while waiting:
            section = waiting.pop()
            yield section
            waiting.extend(reversed(section.sections))

    def figures(self) -> list[Figure]:
        """All figures, in reading order."""
        blocks = [*self.intro, *(block for section in self.walk() for block in section.blocks)]
        return [block for block in blocks if isinstance(block, Figure)]
