"""Writes the bundled samples in the published raw formats, always the same bytes inside.

Launch:  python -m adapter_exp.data.samples.generate [FOLDER]

Needs the ``samples`` extra (pymorphy3). Without FOLDER the samples in the package are rewritten.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Final

from adapter_exp.data.samples.entailment import TRIPLES
from adapter_exp.data.samples.grammar import Deck, Filler
from adapter_exp.data.samples.names import NAMES
from adapter_exp.data.samples.news import TEMPLATES, WITHOUT_ENTITIES
from adapter_exp.tasks.protocol import Split
from adapter_exp.tasks.readers.conllu import Sentence, Span

SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")
SENTENCES: Final[dict[Split, int]] = {"train": 240, "validation": 60, "test": 120}
PAIRS: Final[dict[Split, int]] = {"train": 120, "validation": 40, "test": 120}
DOCUMENT_SENTENCES = (3, 6)
# As published: the labelled file that results are reported on is called val.
TERRA_FILES: Final[dict[Split, str]] = {"train": "train", "validation": "validation", "test": "val"}
_TOKEN = re.compile(r"\w+(?:-\w+)*|[^\w\s]")


def news(split: Split) -> list[Sentence]:
    """The sentences of one split of ``nerus``, in documents of 3 to 6."""
    rng = Random(f"nerus {split}")
    filler, templates = Filler(NAMES[split], rng), Deck(TEMPLATES[split], rng)
    sentences: dict[str, tuple[Span, ...]] = dict.fromkeys(WITHOUT_ENTITIES[split], ())
    while len(sentences) < SENTENCES[split]:
        filler.bind()
        text, spans = filler.fill(templates.deal())
        sentences.setdefault(text, spans)
    texts = rng.sample(list(sentences), len(sentences))
    drawn: list[Sentence] = []
    document = 0
    while texts:
        size = rng.randint(*DOCUMENT_SENTENCES)
        if len(texts) - size < DOCUMENT_SENTENCES[0]:
            size = len(texts)  # no document of one or two sentences is left over
        name = f"{split}_{document}"
        drawn += (Sentence(f"{name}_{i}", name, text, sentences[text]) for i, text in enumerate(texts[:size]))
        texts, document = texts[size:], document + 1
    return drawn


def conllu(sentences: Iterable[Sentence]) -> str:
    """``sentences`` in the layout of Nerus, with FORM and Tag filled."""
    lines: list[str] = []
    document = ""
    for sentence in sentences:
        if sentence.document != document:
            document = sentence.document
            lines.append(f"# newdoc id = {document}")
        lines += [f"# sent_id = {sentence.id}", f"# text = {sentence.text}"]
        for number, token in enumerate(_TOKEN.finditer(sentence.text), start=1):
            span = next((s for s in sentence.spans if s.start <= token.start() < s.end), None)
            tag = "O" if span is None else f"{'B' if token.start() == span.start else 'I'}-{span.type}"
            lines.append("\t".join([str(number), token.group(), *"_______", f"Tag={tag}"]))
        lines.append("")
    return "\n".join(lines) + "\n"


def pairs(split: Split) -> str:
    """One split of ``terra`` as JSON lines; both labels of a premise stand in random order."""
    rng = Random(f"terra {split}")
    filler, triples = Filler(NAMES[split], rng), Deck(TRIPLES[split], rng)
    rows: dict[tuple[str, str], str] = {}
    while len(rows) < PAIRS[split]:
        filler.bind()
        premise, follows, does_not = (filler.fill(template)[0] for template in triples.deal())
        both = [((premise, follows), "entailment"), ((premise, does_not), "not_entailment")]
        rows.update(rng.sample(both, 2))
    return "".join(
        json.dumps({"premise": p, "hypothesis": h, "label": label, "idx": i}, ensure_ascii=False) + "\n"
        for i, ((p, h), label) in enumerate(rows.items())
    )


def write(folder: Path) -> None:
    """Write all samples below ``folder``."""
    for task in ("nerus", "terra"):
        (folder / task).mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        # No time stamp: the same text gives the same file.
        (folder / "nerus" / f"{split}.conllu.gz").write_bytes(gzip.compress(conllu(news(split)).encode(), mtime=0))
        (folder / "terra" / f"{TERRA_FILES[split]}.jsonl").write_text(pairs(split), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
