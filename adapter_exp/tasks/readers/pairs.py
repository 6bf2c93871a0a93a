"""Draws the splits of TERRa from a folder, a zip or one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapter_exp.data.sampling import Draw
from adapter_exp.data.splits import in_held_out_share, split_of
from adapter_exp.errors import UserError
from adapter_exp.tasks.protocol import Split
from adapter_exp.tasks.readers.terra import Pair, read_pairs, read_zipped_pairs, zip_members

# The published test.jsonl has no labels, so the published val.jsonl is what results are reported on.
FILES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train.jsonl",),
    "validation": ("validation.jsonl",),
    "test": ("val.jsonl", "test.jsonl"),
}
HELD_OUT_PERCENT = 10


@dataclass(frozen=True)
class PairSource:
    """Where pairs come from and how many are taken.

    Attributes:
        path: a folder or zip with ``train.jsonl``, ``val.jsonl`` (the test split) and perhaps ``validation.jsonl``, in
            the folder itself or in one below it; or one ``.jsonl`` file, split 80/10/10 by premise. Without
            ``validation.jsonl`` every tenth premise of ``train.jsonl`` is validation.
        sizes: pairs to draw for each split, None for all.
        seed: decides the splits and the draw.
    """

    path: Path
    sizes: Mapping[Split, int | None]
    seed: int

    def draw(self, split: Split) -> Draw[Pair]:
        """Draw ``split``; pairs of equal premise and hypothesis are one item (the first of them).

        Raises:
            UserError: if a file is missing or damaged (``readers/terra.py``), or nothing is left for ``split``.
        """
        draw = Draw[Pair](self.sizes[split], seed=self.seed)
        for pair in self._read(split):
            key = f"{pair.premise}\0{pair.hypothesis}"
            if draw.wants(key):
                draw.add(key, pair)
        if not draw.items():
            raise UserError(f"{self.path}: no pair for the {split} split; too few premises, or give {FILES[split][0]}.")
        return draw

    def _read(self, split: Split) -> Iterator[Pair]:
        if not self.path.exists():
            raise UserError(f"{self.path}: there is no such file or folder.")
        if self.path.is_file() and self.path.suffix != ".zip":
            return (p for p in read_pairs(self.path) if split_of(p.premise, seed=self.seed) == split)
        files = self._files()
        name = next((name for name in FILES[split] if name in files), None)
        if name is not None and (split != "train" or "validation.jsonl" in files):
            return self._rows(files[name])
        if split == "test" or "train.jsonl" not in files:
            wanted = " or ".join(FILES[split] if split == "test" else FILES["train"])
            raise UserError(f"{self.path}: no {wanted}; found: {', '.join(sorted(files)) or 'no .jsonl files'}.")
        held_out = split == "validation"
        return (p for p in self._rows(files["train.jsonl"]) if self._held_out(p) == held_out)

    def _held_out(self, pair: Pair) -> bool:
        return in_held_out_share(pair.premise, seed=self.seed, percent=HELD_OUT_PERCENT)

    def _files(self) -> dict[str, str]:
        """Base name -> where the file lies in the folder or archive."""
        if self.path.is_file():
            return zip_members(self.path)
        below = [*self.path.glob("*/*.jsonl"), *self.path.glob("*.jsonl")]  # a file in the folder itself wins
        return {file.name: str(file.relative_to(self.path)) for file in below}

    def _rows(self, member: str) -> Iterator[Pair]:
        return read_zipped_pairs(self.path, member) if self.path.is_file() else read_pairs(self.path / member)
