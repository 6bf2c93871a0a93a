"""A document as text for the terminal. Wide tables are stacked, then cut into columns; numbers never break."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from adapter_exp.report.document import Block, Bullets, Cell, Column, Document, Facts, Figure, Paragraph, Section, Table
from adapter_exp.report.numbers import SPACE

STYLES = {"good": "green", "bad": "magenta", "warn": "yellow", "muted": "dim", None: ""}
GAP = 2
NARROWEST = 12
"""Columns that name rows may wrap, but not below this width."""


def print_document(document: Document, console: Console) -> None:
    """Print a report; figures are left out."""
    console.print(Text(document.title, style="bold underline"))
    _print_blocks(document.intro, console)
    for section in document.sections:
        _print_section(section, console, depth=0)


def _print_section(section: Section, console: Console, depth: int) -> None:
    console.print()
    console.print(Text(section.title, style="bold cyan" if depth == 0 else "bold"))
    _print_blocks(section.blocks, console)
    for inner in section.sections:
        _print_section(inner, console, depth + 1)


def _print_blocks(blocks: Sequence[Block], console: Console) -> None:
    shown = [block for block in blocks if not isinstance(block, Figure)]
    for position, block in enumerate(shown):
        if position and isinstance(shown[position - 1], Table) and not isinstance(block, Table):
            console.print()
        _print_block(block, console)


def _print_block(block: Block, console: Console) -> None:
    match block:
        case Paragraph():
            console.print(Text("\n".join(_wrapped(block.text, console.width)), style=STYLES[block.tone]))
        case Bullets():
            for item in block.items:
                _print_pair("-", item, 1, console)
        case Facts():
            width = max(cell_len(label) for label, _ in block.pairs)
            for label, text in block.pairs:
                _print_pair(label, text, width, console)
        case Table():
            for table in tables(block, console.width):
                console.print()
                console.print(table)
            for note in block.notes:
                console.print(Text("\n".join(_wrapped(note, console.width)), style="dim"))
        case Figure():
            pass


def _print_pair(label: str, text: str, width: int, console: Console) -> None:
    """``text`` beside its label, further lines below its first."""
    lines = _wrapped(text, max(NARROWEST, console.width - width - GAP))
    for position, line in enumerate(lines):
        shown = label if position == 0 else ""
        console.print(Text.assemble((shown + " " * (width + GAP - cell_len(shown)), "dim"), line))


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` characters. Unlike rich, this does not break at no-break spaces, inside numbers."""
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def tables(table: Table, width: int) -> list[RenderableType]:
    """``table`` in ``width`` columns of text: whole, with intervals below their numbers, or in blocks of columns."""
    for stacked in (False, True):
        if (widths := _widths(table, range(len(table.columns)), width, stacked)) is not None:
            return [_table(table, range(len(table.columns)), widths, stacked, caption=True)]
    blocks: list[RenderableType] = []
    for chosen in _blocks(table, width):
        widths = _widths(table, chosen, width, stacked=True) or _forced(table, chosen, width)
        blocks.append(_table(table, chosen, widths, stacked=True, caption=not blocks))
    return blocks


def _blocks(table: Table, width: int) -> list[list[int]]:
    """Columns of each block: the key columns and as many others as fit."""
    keys = [number for number, column in enumerate(table.columns) if column.key]
    others = [number for number, column in enumerate(table.columns) if not column.key]
    blocks: list[list[int]] = []
    current: list[int] = []
    for number in others:
        if current and _widths(table, [*keys, *current, number], width, stacked=True) is None:
            blocks.append([*keys, *current])
            current = []
        current.append(number)
    return [*blocks, [*keys, *current]]


def _widths(table: Table, chosen: Sequence[int], width: int, stacked: bool) -> list[int] | None:
    """Widths of the chosen columns, key columns shrunk as far as need be; None where they do not fit."""
    natural = [_natural(table, number, stacked) for number in chosen]
    least = [
        min(full, max(NARROWEST, _longest_word(table, number))) if _wraps(table.columns[number]) else full
        for number, full in zip(chosen, natural, strict=True)
    ]
    room = width - GAP * (len(chosen) - 1)
    if sum(least) > room:
        return None
    spare = room - sum(least)
    widths = []
    for full, small in zip(natural, least, strict=True):
        more = min(full - small, spare)
        spare -= more
        widths.append(small + more)
    return widths


def _forced(table: Table, chosen: Sequence[int], width: int) -> list[int]:
    """For a table that fits in no way: key columns share what the numbers leave, and fold where they must."""
    numbers = sum(_natural(table, number, True) for number in chosen if not _wraps(table.columns[number]))
    keys = [number for number in chosen if _wraps(table.columns[number])]
    room = max(NARROWEST * len(keys), width - GAP * (len(chosen) - 1) - numbers)
    natural = {number: _natural(table, number, True) for number in keys}
    least = {number: min(size, NARROWEST) for number, size in natural.items()}
    spare = room - sum(least.values())
    wanted = sum(natural[number] - least[number] for number in keys) or 1
    return [
        least[number]
        + max(0, min(natural[number] - least[number], spare * (natural[number] - least[number]) // wanted))
        if number in least
        else _natural(table, number, True)
        for number in chosen
    ]


def _wraps(column: Column) -> bool:
    return column.key or column.align == "left"


def _natural(table: Table, number: int, stacked: bool) -> int:
    cells = [_lines(row[number], stacked) for row in table.rows]
    title = max((cell_len(word) for word in table.columns[number].title.split()), default=0)
    return max([title, *(cell_len(line) for lines in cells for line in lines)])


def _longest_word(table: Table, number: int) -> int:
    words = [word for row in table.rows for word in f"{row[number].text} {row[number].extra}".split(" ")]
    longest = max((cell_len(word) for word in [*words, *table.columns[number].title.split()]), default=0)
    return min(longest, 2 * NARROWEST)


def _lines(cell: Cell, stacked: bool) -> list[str]:
    if not cell.extra:
        return [cell.text]
    return [cell.text, cell.extra] if stacked else [f"{cell.text} {cell.extra}"]


def _table(table: Table, chosen: Sequence[int], widths: Sequence[int], stacked: bool, *, caption: bool) -> RichTable:
    shown = RichTable(
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, GAP // 2), header_style="dim", show_edge=False,
        title=Text(table.caption, style="bold") if caption and table.caption else None, title_justify="left",
        collapse_padding=True,
    )  # fmt: skip
    for number, width in zip(chosen, widths, strict=True):
        column = table.columns[number]
        shown.add_column(Text(column.title), justify=column.align, width=width, overflow="fold")
    for position, row in enumerate(table.rows):
        cells = [_cell(row[number], stacked, width) for number, width in zip(chosen, widths, strict=True)]
        shown.add_row(*cells, end_section=position in table.ends)
    return shown


def _cell(cell: Cell, stacked: bool, width: int) -> Text:
    style = STYLES[cell.tone] or ("bold" if cell.strong else "")
    lines = []
    for position, text in enumerate(_lines(cell, stacked)):
        indent = text[: len(text) - len(text.lstrip(SPACE))]
        lines += [
            (indent + line, "dim" if position else style) for line in _wrapped(text.lstrip(SPACE), width - len(indent))
        ]
    return Text("\n").join(Text(line, style=chosen) for line, chosen in lines)
