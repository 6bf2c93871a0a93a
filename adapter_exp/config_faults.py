"""Pydantic's errors as lines that a user can act on: key, value, what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

MAX_SHOWN_CHARS = 80

# What the schema's patterns mean, for people who do not read regular expressions.
PATTERNS = {
    r"^(auto|cpu|cuda(:\d+)?)$": "auto, cpu, cuda or cuda:N",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$": "up to 80 letters, digits, '.', '_' and '-', starting with a letter or digit",
    r"^[A-Za-z][A-Za-z0-9_]*$": "a package's import name without dots: letters, digits and '_', starting with a letter",
    r"^[\w.-]+(/[\w.-]+)?$": "owner/name as on the hub",
    r"^\w+/\w+$": "TASK/METRIC, as in nerus/micro_f1",
    r"^\w+$": "one word of letters and digits",
    r"^[A-Z][A-Z0-9_]*$": "capital letters, digits and '_', starting with a letter",
}
# Pydantic's type of a fault: what the value is not.
_NOT_A = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "string": "text",
    "tuple": "a list",
    "dict": "a section of keys",
    "model": "a section of keys",
}
_COMPARISONS = {
    "greater_than_equal": "is too small",
    "greater_than": "is too small",
    "less_than_equal": "is too large",
    "less_than": "is too large",
}


@dataclass(frozen=True)
class _Place:
    """Where a fault lies: its dotted key, the section around it, and the type that its value should have."""

    key: str
    owner: type[BaseModel] | None
    annotation: Any
    bounds: tuple[Any, ...]


def faults_of(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """One line per fault, in the order of the keys.

    Args:
        error: what ``schema.model_validate`` raised.
        schema: names the known keys where an unknown one was given.
    """
    found = error.errors(include_url=False)
    inner = {fault["loc"][:-1] for fault in found if fault["loc"] and isinstance(fault["loc"][-1], int)}
    # A list with a bad item is also told to be too short, by the items that were left.
    lines = [_line(fault, schema) for fault in found if fault["loc"] not in inner or fault["type"] != "too_short"]
    return [_printable(line) for line in lines]


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean ...?`` for names close to ``name`` or shortened to it (``lr``), else an empty string."""
    known = list(known)
    initials = [key for key in known if "_" in key and "".join(word[0] for word in key.split("_")) == name]
    close = initials or difflib.get_close_matches(name, known, n=3)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def shown(value: Any) -> str:
    """A value as the user would write it in YAML, on one line, shortened, without passwords of an address."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f"[{', '.join(map(shown, value))}]" if isinstance(value, list | tuple) else repr(value)
    text = re.sub(r"//[^/@\s]*@", "//...@", text)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[: MAX_SHOWN_CHARS - 3]}..."


def _printable(line: str) -> str:
    """``line`` with whatever would break it or move the cursor shown as an escape."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def _line(fault: Any, schema: type[BaseModel]) -> str:
    place = _place(schema, fault["loc"])
    kind = fault["type"]
    if kind == "extra_forbidden":
        known = sorted(place.owner.model_fields) if place.owner else []
        name = str(fault["loc"][-1])
        return f"{place.key}: unknown key.{nearest(name, known)} Known keys here: {', '.join(known)}."
    if kind == "missing":
        return f"{place.key}: is missing; give it a value ({place.key}=...)."
    if kind.startswith("union_tag"):
        return _unknown_tag(fault, place)
    if kind == "value_error":
        return _own_message(fault, place)
    return f"{place.key}: {shown(fault['input'])} {_wrong(fault, place)}."


def _unknown_tag(fault: Any, place: _Place) -> str:
    """A section whose kind is unknown or missing; pydantic names the section, not the key of its kind."""
    context = fault["ctx"]
    key = f"{place.key}.{context['discriminator'].strip(chr(39))}"
    known = [tag for model in _models(place.annotation) if (tag := _tag(model))]
    if "tag" not in context:
        return f"{key}: is missing; use one of: {', '.join(known)}."
    given = fault["input"][context["discriminator"].strip("'")]
    return f"{key}: {shown(given)} is unknown.{nearest(context['tag'], known)} Use one of: {', '.join(known)}."


def _own_message(fault: Any, place: _Place) -> str:
    """The text of a validator of ours, after the key and, where the text leaves it out, the value."""
    text = str(fault["ctx"]["error"]).rstrip(".")
    if isinstance(fault["input"], dict | BaseModel):
        field, colon, rest = text.partition(": ")
        if colon and re.fullmatch(r"[\w.]+", field):  # the rule of a whole section names the key itself
            same = f".{place.key}".endswith(f".{field}")
            return f"{place.key if same else f'{place.key}.{field}'.lstrip('.')}: {rest}."
        return f"{place.key}: {text}." if place.key else f"{text}."
    value = shown(fault["input"])
    text = text.replace(repr(fault["input"]), value)
    if value in text:
        return f"{place.key}: {text}."
    return f"{place.key}: {value}{' ' if text.startswith(('is ', 'must ', 'holds ')) else ': '}{text}."


def _wrong(fault: Any, place: _Place) -> str:
    """What is wrong with a value of a plain type, and what is allowed."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in _COMPARISONS:
        return f"{_COMPARISONS[kind]}; use {_allowed(place)}"
    if kind == "literal_error":
        choices = [str(choice) for choice in get_args(place.annotation)]
        return f"is unknown.{nearest(str(fault['input']), choices)} Use one of: {', '.join(choices)}"
    if kind == "string_pattern_mismatch":
        return f"does not fit; use {PATTERNS.get(context['pattern'], context['pattern'])}"
    if kind in ("string_too_short", "too_short"):
        return "is empty; give it a value"
    wanted = next((text for word, text in _NOT_A.items() if kind.startswith(word)), None)
    if wanted is None:
        return str(fault["msg"])
    if wanted == "a list":
        return f"is not a list; write it in brackets ({place.key}=[...])"
    allowed = _allowed(place)
    return f"is not {wanted}; use {allowed}" if allowed else f"is not {wanted}"


def _allowed(place: _Place) -> str:
    """What may stand here, such as ``a number, above 0 and at most 1``; empty for any text."""
    types = _plain_types(place.annotation)
    words = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}"}
    parts = [
        text.format(getattr(bound, name))
        for bound in place.bounds
        for name, text in words.items()
        if getattr(bound, name, None) is not None
    ]
    patterns = [PATTERNS[pattern] for bound in place.bounds if (pattern := getattr(bound, "pattern", None))]
    numbers = {int: "a whole number", float: "a number"}
    number = next((text for kind, text in numbers.items() if kind in types), "")
    found = ", ".join(part for part in (number, " and ".join(dict.fromkeys(parts)), *patterns) if part)
    return f"{found}, or null" if found and type(None) in types else found


def _place(schema: type[BaseModel], location: Sequence[str | int]) -> _Place:
    """Follow a fault's location through the schema; pydantic puts the tags of unions between the keys."""
    key = ""
    owner: type[BaseModel] | None = None
    annotation: Any = schema
    bounds: list[Any] = []
    for part in location:
        models = _models(annotation)
        if isinstance(part, int):
            key += f"[{part}]"
            annotation, bounds = get_args(annotation)[0] if get_args(annotation) else None, []
        elif (values := _dict_values(annotation)) is not None:
            key, owner, annotation = f"{key}.{part}", None, values
        elif len(models) > 1:
            owner = next(model for model in models if _tag(model) == part)
            annotation = owner
        elif models:
            owner = models[0]
            key = f"{key}.{part}" if key else str(part)
            field = owner.model_fields.get(str(part))
            annotation = field.annotation if field else None
            bounds = [*field.metadata] if field else []
        # else: pydantic names the arm of a plain union, which is no key
    return _Place(key, owner, annotation, (*bounds, *_metadata(annotation)))


def _dict_values(annotation: Any) -> Any:
    """The type of a dict's values; None for any other type."""
    return get_args(annotation)[1] if get_origin(annotation) is dict else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Every schema inside a type: a section, the arms of a union, the values of a dict."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _plain_types(annotation: Any) -> set[Any]:
    inside = [found for part in get_args(annotation) for found in _plain_types(part)]
    return {annotation, *inside} if isinstance(annotation, type) else set(inside)


def _metadata(annotation: Any) -> list[Any]:
    """The bounds written inside a type: ``Annotated[int, Field(ge=1)] | None``."""
    own = [entry for entry in getattr(annotation, "__metadata__", ()) if isinstance(entry, FieldInfo)]
    found = [bound for entry in own for bound in entry.metadata]
    return found + [bound for part in get_args(annotation) for bound in _metadata(part)]


def _tag(model: type[BaseModel]) -> str | None:
    for name in ("kind", "source", "name"):
        field = model.model_fields.get(name)
        if field is not None and isinstance(field.default, str):
            return field.default
    return None
