"""Pydantic's errors as lines that a user can act on: key, value, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def faults_of(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """One line per fault, in the order of the keys.

    Args:
        error: what ``schema.model_validate`` raised.
        schema: names the known keys where an unknown one was given.
    """
    return [_line(fault, schema) for fault in error.errors(include_url=False)]


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean ...?`` for names close to ``name``, else an empty string."""
    close = difflib.get_close_matches(name, list(known), n=3)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _line(fault: Any, schema: type[BaseModel]) -> str:
    path, owner = _walk(schema, fault["loc"])
    key = ".".join(path)
    value = fault["input"]
    kind = fault["type"]
    if kind == "extra_forbidden":
        known = sorted(owner.model_fields) if owner else []
        return f"{key}: unknown key.{nearest(path[-1], known)} Known keys here: {', '.join(known)}."
    if kind == "missing":
        return f"{key}: is missing; give it a value ({key}=...)."
    if kind.startswith("union_tag"):
        return f"{key}: {_shown(fault.get('ctx', {}).get('tag', value))} is unknown; {_tags(fault)}"
    message = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    if not key:
        return message
    return f"{key}: {_shown(value)} {message[:1].lower()}{message[1:]}."


def _tags(fault: Any) -> str:
    expected = fault.get("ctx", {}).get("expected_tags")
    return f"use {expected}." if expected else "it needs its kind."


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, BaseModel | dict) else "this section"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _walk(schema: type[BaseModel], location: Sequence[str | int]) -> tuple[list[str], type[BaseModel] | None]:
    """The dotted key of a fault without pydantic's union tags, and the section it lies in."""
    path: list[str] = []
    owner: type[BaseModel] | None = schema
    candidates: list[type[BaseModel]] = []
    for part in location:
        tagged = [c for c in candidates if _tag(c) == part]
        if tagged:  # the tag of a discriminated union, not a key
            owner, candidates = tagged[0], []
            continue
        if isinstance(part, str) and part.startswith(("constrained", "function-", "tuple[", "str", "int")) and path:
            continue  # pydantic names the arm of a plain union
        path.append(str(part))
        annotation = owner.model_fields[part].annotation if owner and part in owner.model_fields else None
        found = _models(annotation) if annotation is not None else candidates
        candidates = found
        if annotation is not None and len(found) == 1:
            owner = found[0]
        elif annotation is not None and not found and part != location[-1]:
            owner = None
    return path, owner


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Every schema inside a type: a section, the arms of a union, the values of a dict."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _tag(model: type[BaseModel]) -> str | None:
    for name in ("kind", "source", "name"):
        field = model.model_fields.get(name)
        if field is not None and isinstance(field.default, str):
            return field.default
    return None
