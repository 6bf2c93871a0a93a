"""Test splits larger than the bundled ones, from the same generator, as raw files of both tasks.

    python benchmarks/larger_samples.py FOLDER PAIRS

FOLDER/nerus gets all bundled sentences as test.conllu, FOLDER/terra the bundled pairs of all splits as val.jsonl; pairs
that lack join a premise with the hypothesis of the next, which does not follow from it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from adapter_exp.data.samples.generate import SPLITS, conllu, news, pairs


def main(folder: Path, wanted: int) -> None:
    """Write both files."""
    for task in ("nerus", "terra"):
        (folder / task).mkdir(parents=True, exist_ok=True)
    sentences = [sentence for split in SPLITS for sentence in news(split)]
    (folder / "nerus" / "test.conllu").write_text(conllu(sentences), encoding="utf-8")
    rows = [json.loads(line) for split in SPLITS for line in pairs(split).splitlines()]
    crossed = [
        {**row, "hypothesis": other["hypothesis"], "label": "not_entailment"}
        for row, other in zip(rows[0::2], rows[2::2], strict=False)
    ]
    rows = [{**row, "idx": number} for number, row in enumerate([*rows, *crossed][:wanted])]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "terra" / "val.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
