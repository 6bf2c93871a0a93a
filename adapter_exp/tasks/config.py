"""What a task reads, asks and accepts, as plain typed values; imports neither torch nor numpy."""

from __future__ import annotations

import string
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Count = Annotated[int, Field(strict=True, ge=1)]
AnswerWord = Annotated[str, Field(pattern=r"^\w+$")]
EntityType = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]


class TaskConfig(BaseModel):
    """Settings that every task has; each task's subclass adds its texts and data options.

    Attributes:
        name: key in ``tasks/registry.py``.
        version: moves with every text below that can change a score.
        path: the user's data in the published raw format; None reads the sample that ships with the package.
        max_train, max_validation, max_eval: at most this many items of a split, drawn by ``split_seed``; None for all.
        split_seed: decides which documents fall in which split and which items are drawn.
        system: instruction that all examples share, "" for none.
        stop: strings that end a generated answer.
        max_new_tokens: cap on one generated answer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: Count
    path: str | None = Field(default=None, min_length=1)
    max_train: Count | None = None
    max_validation: Count | None = None
    max_eval: Count | None = None
    split_seed: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    system: str
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    max_new_tokens: Count


class NerusConfig(TaskConfig):
    """Named entities in CoNLL-U with ``Tag=B-PER`` in the last column (Nerus and corpora in its layout).

    Attributes:
        prompt: the user's message, with the field ``{text}``.
        empty_answer: the word that answers a text without entities.
        types: entity types of the corpus; a tag of another type is a fault in the data.
        min_chars, max_chars: sentences outside these lengths (characters) are left out of every split.
    """

    name: Literal["nerus"] = "nerus"
    prompt: str
    empty_answer: AnswerWord
    types: tuple[EntityType, ...] = Field(min_length=1)
    min_chars: Count | None = None
    max_chars: Count | None = None

    @field_validator("prompt")
    @classmethod
    def _fields(cls, prompt: str) -> str:
        return _with_fields(prompt, {"text"})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.types)) != len(self.types):
            raise ValueError(f"types: {list(self.types)} names a type twice")
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(f"min_chars: {self.min_chars} is above max_chars ({self.max_chars})")
        return self


class TerraLabels(BaseModel):
    """The answer word of each label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    entailment: AnswerWord
    not_entailment: AnswerWord

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.entailment.casefold() == self.not_entailment.casefold():
            raise ValueError(f"labels: both are answered by '{self.entailment}'; use two different words")
        return self


class TerraConfig(TaskConfig):
    """TERRa, Russian textual entailment (Russian SuperGLUE).

    Attributes:
        prompt: the user's message, with the fields ``{premise}`` and ``{hypothesis}``.
        labels: the answer word of each label.
    """

    name: Literal["terra"] = "terra"
    prompt: str
    labels: TerraLabels

    @field_validator("prompt")
    @classmethod
    def _fields(cls, prompt: str) -> str:
        return _with_fields(prompt, {"premise", "hypothesis"})


def _with_fields(template: str, wanted: set[str]) -> str:
    """Return ``template`` if it has exactly the ``wanted`` replacement fields."""
    names = ", ".join(f"{{{name}}}" for name in sorted(wanted))
    try:
        found = [(name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(template)]
    except ValueError as error:
        raise ValueError(
            f"'{template}' is not a template ({error}); write a plain brace twice, fields: {names}"
        ) from None
    if {name for name, _, _ in found if name is not None} != wanted or any(spec or conv for _, spec, conv in found):
        raise ValueError(f"'{template}' must have the fields {names} and no others; write a plain brace twice")
    return template
