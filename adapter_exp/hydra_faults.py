"""Hydra's and OmegaConf's errors as one line."""

from __future__ import annotations

import re
from collections.abc import Iterator

_NOISE = ("full_key:", "object_type=", "reference_type=", "To append to your config", "See https://", "provider=")
_PARSER = ("LexerNoViableAlt", "no viable alternative", "mismatched input", "token recognition", "extraneous input")


def hydra_fault(error: BaseException) -> str:
    """One line that says what was wrong with the command line or the YAML.

    Hydra wraps the real reason in several exceptions and spreads it over several lines.
    """
    override = _override(error)
    if override is not None:
        return (
            f"{override}: is not an override that can be read; write key=value, and quote a value that holds '=', "
            "a comma, brackets or braces, as in 'task.path=\"a=b.jsonl\"'."
        )
    lines = [line for link in _chain(error) for line in _told(link)]
    text = re.sub(r"\s+", " ", " ".join(dict.fromkeys(lines))) or type(error).__name__
    text = re.sub(r"^In '[\w/]+': ", "", text).replace("Config search path:", "").strip()
    found = re.match(r"Could not find '([\w/]+)/([^'/]+)' Available options in '[\w/]+': (.*)", text)
    if found:
        group, name, options = found.groups()
        return f"{group}: '{name}' is unknown; use one of: {', '.join(options.split())}."
    found = re.match(r"Could not override '([^']+)'\.?.* Key '[^']+' is not in struct", text)
    if found:
        return f"{found[1]}: unknown key; `--cfg job` shows every key."
    return text


def _override(error: BaseException) -> str | None:
    """The command-line override that could not be parsed, if that is what happened."""
    for link in _chain(error):
        given = getattr(link, "override", None)
        if isinstance(given, str):
            return given
        message = str(link)
        found = re.search(r"[Ee]rror parsing override '(.*?)'", message)
        if found:
            return found[1]
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _told(error: BaseException) -> list[str]:
    stripped = (line.strip() for line in str(error).splitlines())
    return [line for line in stripped if line and not line.startswith((*_NOISE, *_PARSER))]
