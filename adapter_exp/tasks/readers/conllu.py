"""Streaming reader of CoNLL-U with named-entity tags, the layout of Nerus.

Each sentence is a block of lines: comments (``# newdoc id = 0`` at the start of a document, ``# sent_id = 0_0``,
``# text = ...``), then one line of ten tab-separated columns per token, the last with ``Tag=B-PER``, ``Tag=I-PER`` or
``Tag=O``, then a blank line. Source: https://github.com/natasha/nerus and https://universaldependencies.org/format.html.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from adapter_exp.errors import UserError
from adapter_exp.tasks.readers.lines import decode, numbered_lines

_COLUMNS = 10


@dataclass(frozen=True)
class Span:
    """An entity: ``text`` is ``sentence.text[start:end]`` (characters)."""

    type: str
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Sentence:
    """One sentence with its entities in order."""

    id: str
    document: str
    text: str
    spans: tuple[Span, ...]


@dataclass
class Block:
    """One sentence, not yet parsed: only its document and its text are known.

    Parsing is left to the caller because a draw from a corpus of ten million sentences wants few of them.
    """

    path: Path
    line: int
    document: str
    text: str
    sentence_id: str
    tokens: list[tuple[int, bytes]] = field(default_factory=list)

    def parse(self, types: Collection[str]) -> Sentence:
        """The sentence and its spans.

        ``I-X`` that does not continue a span of type X opens a new one, the usual repair of silver IOB2 tags
        (conlleval does the same; Tjong Kim Sang & Buchholz 2000).

        Raises:
            UserError: naming file and line, if a line has no ten columns, no Tag, an unknown tag, or a token that is
                not in the sentence's text.
        """
        spans: list[Span] = []
        position, open_type = 0, ""
        for number, raw in self.tokens:
            form, tag = self._columns(number, raw)
            start = self.text.find(form, position)
            if start < 0 or self.text[position:start].strip():
                raise UserError(f"{self.path}:{number}: token '{form}' does not come next in '# text = {self.text}'.")
            position = start + len(form)
            prefix, _, kind = tag.partition("-")
            if tag != "O" and (prefix not in ("B", "I") or kind not in types):
                allowed = ", ".join(f"B-{t}, I-{t}" for t in types)
                raise UserError(f"{self.path}:{number}: unknown label 'Tag={tag}'. Use O, {allowed} (task.types).")
            if prefix == "I" and kind == open_type:
                last = spans.pop()
                spans.append(Span(kind, last.start, position, self.text[last.start : position]))
            elif tag != "O":
                spans.append(Span(kind, start, position, form))
            open_type = kind
        return Sentence(self.sentence_id, self.document, self.text, tuple(spans))

    def _columns(self, number: int, raw: bytes) -> tuple[str, str]:
        """FORM and the value of Tag of one token line."""
        columns = decode(raw, self.path, number).split("\t")
        if len(columns) != _COLUMNS:
            raise UserError(
                f"{self.path}:{number}: {len(columns)} tab-separated columns instead of {_COLUMNS}; "
                "the file is no CoNLL-U or was cut off here."
            )
        if not columns[0].isdecimal():
            raise UserError(f"{self.path}:{number}: token id '{columns[0]}' is not a number (words only, no ranges).")
        tag = next((f[4:] for f in columns[9].split("|") if f.startswith("Tag=")), None)
        if tag is None or not columns[1]:
            raise UserError(f"{self.path}:{number}: no 'Tag=...' in the last column ('{columns[9]}') or no word.")
        return columns[1], tag


def read_blocks(path: Path) -> Iterator[Block]:
    """Sentences of ``path`` (``.conllu`` or ``.conllu.gz``) one by one, unparsed, in constant memory.

    Raises:
        UserError: naming file and line, if the file is missing, empty, damaged or not UTF-8, or if a sentence has no
            text or stands before the first document.
    """
    document, index = "", 0
    comments: dict[str, str] = {}
    tokens: list[tuple[int, bytes]] = []
    number = 0
    for number, line in numbered_lines(path):
        if line.startswith(b"#") and not tokens:
            key, _, value = decode(line, path, number)[1:].partition("=")
            key = key.strip()
            if key in ("newdoc", "newdoc id"):  # the format allows a document without a name
                document, index = value.strip() or f"line {number}", 0
            comments[key] = value.strip()
        elif line.strip():
            tokens.append((number, line))
        elif tokens:
            yield _block(path, document, index, comments, tokens)
            index += 1
            comments, tokens = {}, []
    if tokens:
        yield _block(path, document, index, comments, tokens)
    elif not document:
        raise UserError(f"{path}: {number} lines and no sentence; the file is no CoNLL-U.")


def _block(path: Path, document: str, index: int, comments: dict[str, str], tokens: list[tuple[int, bytes]]) -> Block:
    first = tokens[0][0]
    if not comments.get("text"):
        raise UserError(f"{path}:{first}: the sentence has no '# text = ...' line above it.")
    if not document:
        raise UserError(f"{path}:{first}: no '# newdoc' line above; splits are cut by document.")
    return Block(path, first, document, comments["text"], comments.get("sent_id") or f"{document}_{index}", tokens)
