"""Draws the splits of a CoNLL-U corpus in one pass and in memory bounded by the draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapter_exp.data.sampling import Draw
from adapter_exp.data.splits import split_of
from adapter_exp.errors import UserError
from adapter_exp.tasks.protocol import Split
from adapter_exp.tasks.readers.conllu import Sentence, read_blocks

SUFFIXES = (".conllu", ".conllu.gz")


@dataclass(frozen=True)
class SentenceSource:
    """Where sentences come from and which of them are taken.

    Attributes:
        path: one file, split by document, or a folder with a file for each split.
        sizes: sentences to draw for each split, None for all.
        seed: decides the splits of a file and the draw.
        types: the entity types of the corpus.
        min_chars, max_chars: lengths of the sentences to take, in characters; None for no bound.
    """

    path: Path
    sizes: Mapping[Split, int | None]
    seed: int
    types: Sequence[str]
    min_chars: int | None = None
    max_chars: int | None = None

    def draw(self, split: Split) -> dict[Split, Draw[Sentence]]:
        """Draw ``split`` and whatever else comes with the same pass over the data.

        Sentences of equal text are one item (the first of them). Only sentences that are drawn are parsed. News
        repeats itself ("Об этом сообщает РИА Новости."), so when we split a file ourselves, a sentence that is drawn
        for a later split is left out of the earlier ones; in a folder that is the user's choice, and a gate tells.

        Raises:
            UserError: if a file is missing or damaged (``readers/conllu.py``), or nothing is left for ``split``.
        """
        folder = self.path.is_dir()
        draws = {s: Draw[Sentence](self.sizes[s], seed=self.seed) for s in ([split] if folder else self.sizes)}
        for block in read_blocks(self._file(split) if folder else self.path):
            if not (self.min_chars or 0) <= len(block.text) <= (self.max_chars or len(block.text)):
                continue
            draw = draws[split if folder else split_of(block.document, seed=self.seed)]
            if draw.wants(block.text):
                draw.add(block.text, block.parse(self.types))
        if not folder:
            draws["validation"].leave_out(draws["test"])
            draws["train"].leave_out(draws["test"])
            draws["train"].leave_out(draws["validation"])
        if not draws[split].items():
            raise UserError(
                f"{self.path}: no sentence for the {split} split. A single file is split 80/10/10 by document, so it "
                f"needs a few dozen documents, or give a folder with {_names(split)}; check min_chars and max_chars."
            )
        return draws

    def _file(self, split: Split) -> Path:
        for suffix in SUFFIXES:
            if (file := self.path / f"{split}{suffix}").exists():
                return file
        raise UserError(f"{self.path}: no {_names(split)} in this folder.")


def _names(split: Split) -> str:
    return " or ".join(f"{split}{suffix}" for suffix in SUFFIXES)
