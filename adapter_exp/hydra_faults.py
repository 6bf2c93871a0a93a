"""Hydra's and OmegaConf's errors as one line."""

from __future__ import annotations

import re
from collections.abc import Iterator

_NOISE = ("full_key:", "object_type=", "reference_type=", "To append to your config use", "Set the environment")


def hydra_fault(error: BaseException) -> str:
    """One line that says what was wrong with the command line or the YAML.

    Hydra wraps the real reason in several exceptions and spreads it over several lines.
    """
    lines = [line for link in _chain(error) for line in _told(link)]
    unique = list(dict.fromkeys(lines))
    text = " ".join(unique) or type(error).__name__
    if "is not in struct" in text or "Could not override" in text:
        text += " Show every key with --cfg job."
    return re.sub(r"\s+", " ", text)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _told(error: BaseException) -> list[str]:
    stripped = (line.strip() for line in str(error).splitlines())
    lines = [line for line in stripped if line and not line.startswith(_NOISE)]
    if any("LexerNoViableAlt" in line or "See https" in line for line in lines):
        lines = [line for line in lines if "LexerNoViableAlt" not in line and "See https" not in line]
    return lines
