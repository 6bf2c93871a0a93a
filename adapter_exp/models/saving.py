"""Write a model to a folder, whichever process of a run it is that does."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save_model(model: Any, folder: Path) -> None:
    """``save_pretrained``, also in a process that is not the first of its run.

    transformers lets only the first one write, without a word; a cache on another machine would be left with a folder
    that lacks its weights.
    """
    model.should_save_on_this_rank = lambda wanted: wanted
    try:
        model.save_pretrained(folder)
    finally:
        del model.should_save_on_this_rank
