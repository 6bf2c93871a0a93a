"""Hydra's and OmegaConf's errors as lines that a user can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from adapter_exp.config_faults import nearest
from adapter_exp.files import conf_folder

_NOISE = ("full_key:", "object_type=", "reference_type=", "To append to your config", "See https://", "provider=")
_PARSER = ("LexerNoViableAlt", "no viable alternative", "mismatched input", "token recognition", "extraneous input")
# Hydra raises a plain ValueError for `adapter=null` and `model=3`.
_GROUP_VALUE = "Config group override must be"


def is_hydra_fault(error: BaseException) -> bool:
    """Whether the command line or the YAML could not be composed."""
    return isinstance(error, HydraException | OmegaConfBaseException) or str(error).startswith(_GROUP_VALUE)


def hydra_faults(error: BaseException, arguments: Sequence[str]) -> list[str]:
    """What was wrong with the command line or the YAML, one line per fault.

    Hydra wraps the real reason in several exceptions, spreads it over several lines, and stops at the first unknown
    key; all of them are told here, with whatever else is wrong.

    Args:
        arguments: the command line, without the program's name.
    """
    text = _text(error)
    key = _unknown_key(text)
    if key and not key.startswith("hydra."):
        from adapter_exp.unknown_keys import all_faults

        faults = all_faults(arguments)
        if faults is not None:
            return faults or [f"{key}: is not among the keys of the chosen files; write +{key}=... to add it."]
    return [_line(error, text, arguments)]


def unknown_choice(group: str, name: str, options: Sequence[str]) -> str:
    """One line for a name that a group does not have; of Hydra's launchers only ours keep a sweep's ledger."""
    if group == "hydra/launcher":
        options = sorted(file.stem for file in (conf_folder() / group).glob("*.yaml"))
    return f"{group}: '{name}' is unknown.{nearest(name, options)} Use one of: {', '.join(options)}."


def _line(error: BaseException, text: str, arguments: Sequence[str]) -> str:
    override = _override(error)
    if override is not None:
        return _unreadable(override)
    if text.startswith(_GROUP_VALUE):
        given = next(
            (argument for argument in arguments if re.fullmatch(r"\w*=(null|[\d.]+|true|false)", argument)), ""
        )
        return f"{given or 'a group'}: a group takes a name, as in adapter=lora."
    if found := re.match(r"Could not find '([\w/]+)/([^'/]+)' Available options in '[\w/]+': (.*)", text):
        group, name, options = found.groups()
        return unknown_choice(group, name, options.split())
    if found := re.match(r"Could not append to config\. An item is already at '([^']+)'", text):
        return f"{found[1]}: exists already; leave out the + before it."
    if found := re.match(r"Could not delete from config\. '([^']+)' does not exist", text):
        return f"{found[1]}: cannot be deleted, as there is no such key."
    if found := re.match(r"Ambiguous value for argument '(([^=]+)=(.*?))' 1\.", text):
        _, key, value = found.groups()
        return (
            f"{key}: {value} are several values; for a list write {key}=[{value}], "
            f"for one text '{key}=\"{value}\"', to run each add -m."
        )
    key = _unknown_key(text)
    if key:
        return f"{key}: unknown key; `--cfg job` shows every key."
    place = _full_key(error)
    return f"{place}: {text[:1].lower()}{text[1:].rstrip('.')}." if place else text


def _unreadable(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals or not re.fullmatch(r"[+~]*[\w./@]+", key):
        return f"{override}: is not an override; write key=value."
    if any(mark in value for mark in "[]{}\"'"):
        return (
            f"{key}: {value} cannot be read; close every bracket and quote, "
            f"and put a text in quotes inside quotes: '{key}=\"...\"'."
        )
    return f"{key}: {value} cannot be read without quotes; write '{key}=\"{value}\"'."


def _unknown_key(text: str) -> str | None:
    found = re.match(r"Could not override '([^']+)'\.?.* Key '[^']+' (is not in struct|not in ')", text)
    return found[1] if found else None


def _text(error: BaseException) -> str:
    lines = [line for link in _chain(error) for line in _told(link)]
    text = re.sub(r"\s+", " ", " ".join(dict.fromkeys(lines))) or type(error).__name__
    text = re.sub(r"^In '[\w/]+': ", "", text).replace("Config search path:", "").strip()
    return re.sub(r'^\w+ raised while resolving interpolation: "?(.*?)"?$', r"\1", text)


def _override(error: BaseException) -> str | None:
    """The command-line override that could not be parsed, if that is what happened."""
    for link in _chain(error):
        given = getattr(link, "override", None)
        if isinstance(given, str):
            return given
        found = re.search(r"[Ee]rror parsing override '(.*?)'$", str(link), flags=re.MULTILINE)
        if found:
            return found[1]
    return None


def _full_key(error: BaseException) -> str | None:
    """The key that OmegaConf was reading."""
    return next((str(key) for link in _chain(error) if (key := getattr(link, "full_key", None))), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _told(error: BaseException) -> list[str]:
    stripped = (line.strip() for line in str(error).splitlines())
    return [line for line in stripped if line and not line.startswith((*_NOISE, *_PARSER))]
