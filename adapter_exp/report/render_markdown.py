"""A document as Markdown (GitHub's kind, for its tables)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from adapter_exp.report.document import Block, Bullets, Cell, Document, Facts, Figure, Paragraph, Section, Table

_SPECIAL = re.compile(r"([\\`*\[\]<>|$~]|(?<!\w)_|_(?!\w))")
_AT_START = re.compile(r"^(\s*)(#{1,6}(?=\s)|[-+](?=\s)|\d+(?=[.)]\s))")


def markdown(document: Document, figures: Mapping[str, str] | None = None) -> str:
    """The report as Markdown.

    Args:
        figures: path of each figure's file, as the Markdown file links it; figures that are not in it are left out.
    """
    lines = [f"# {escape(document.title)}", ""]
    for block in document.intro:
        lines += _block(block, figures or {})
    for section in document.sections:
        lines += _section(section, figures or {}, level=2)
    return "\n".join(lines).rstrip() + "\n"


def escape(text: str) -> str:
    """``text`` so that Markdown shows it as it is, HTML included."""
    escaped = _SPECIAL.sub(r"\\\1", text.replace("&", "&amp;"))
    # A heading, list or numbered item at the start of a line would become one.
    return _AT_START.sub(lambda found: f"{found[1]}{_defused(found[2])}", escaped).replace("\n", " ")


def _defused(mark: str) -> str:
    return f"\\{mark}" if not mark.isdigit() else f"{mark}\u2060"


def _section(section: Section, figures: Mapping[str, str], level: int) -> Iterator[str]:
    yield f"{'#' * min(level, 6)} {_heading(section.title)}"
    yield ""
    for block in section.blocks:
        yield from _block(block, figures)
    for inner in section.sections:
        yield from _section(inner, figures, level + 1)


def _heading(title: str) -> str:
    """A heading may begin with a number and a dot; nothing else has to be kept from being a list there."""
    return _SPECIAL.sub(r"\\\1", title.replace("&", "&amp;"))


def _block(block: Block, figures: Mapping[str, str]) -> Iterator[str]:
    match block:
        case Paragraph():
            yield escape(block.text)
            yield ""
        case Bullets():
            yield from (f"- {escape(item)}" for item in block.items)
            yield ""
        case Facts():
            yield from (f"- {escape(label)}: {escape(text)}" for label, text in block.pairs)
            yield ""
        case Figure():
            if block.name in figures:
                yield f"![{escape(block.caption)}]({figures[block.name]})"
                yield ""
        case Table():
            yield from _table(block)


def _table(table: Table) -> Iterator[str]:
    if table.caption:
        yield f"**{escape(table.caption)}**"
        yield ""
    yield _row([escape(column.title) for column in table.columns])
    yield _row([":---" if column.align == "left" else "---:" for column in table.columns])
    for row in table.rows:
        yield _row([_cell(cell) for cell in row])
    yield ""
    for note in table.notes:
        yield escape(note)
        yield ""


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    if cell.strong and text:
        text = f"**{text}**"
    return f"{text} {escape(cell.extra)}".strip()
