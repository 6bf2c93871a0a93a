"""One row per evaluated item, and the JSON Lines file that holds them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from adapter_exp.errors import UserError
from adapter_exp.files import write_text_atomic
from adapter_exp.tasks.protocol import Outcome


@dataclass(frozen=True)
class Prediction:
    """What the model answered on one item and how it was judged.

    Attributes:
        item_hash: identity of the item's content: the pairing key between models.
        group: what is resampled (source document, premise).
        prompt_hash: first 16 hex digits of the SHA-256 of the prompt's token ids.
        input: the user's message; ``target``: the reference completion.
        response: generated text, a list of texts when the task asks for several samples, None when it asks for none.
        prediction: what was parsed from the answer; None when it did not parse.
        statistics: numbers that the metrics are sums of.
        logprobs: one list per scored request: nats of each label, or of the text.
        new_tokens: generated tokens.
        milliseconds: the item's share of all its batches' time.
    """

    id: str
    item_hash: str
    group: str
    prompt_hash: str
    input: str
    target: str
    response: str | list[str] | None
    prediction: Any
    parsed: bool
    statistics: dict[str, float]
    logprobs: list[list[float]]
    new_tokens: int
    milliseconds: float

    @property
    def outcome(self) -> Outcome:
        """The task's own judgement of the item."""
        return Outcome(self.prediction, self.parsed, self.statistics)


_SCHEMA = TypeAdapter(Prediction)


def write_predictions(path: Path, rows: Iterable[Prediction]) -> None:
    """Write one JSON object a line, atomically.

    Raises:
        ValueError: if a number is not finite.
    """
    lines = (json.dumps(dataclasses.asdict(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_text_atomic(path, "".join(lines))


def read_predictions(path: Path) -> list[Prediction]:
    """Read a file that ``write_predictions`` wrote.

    Raises:
        UserError: naming file, and line where one is damaged.
    """
    try:
        lines: Sequence[str] = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if lines[-1]:
        raise UserError(f"{path}:{len(lines)}: the last line is cut off; evaluate again")
    return [_read_row(line, f"{path}:{number}") for number, line in enumerate(lines[:-1], 1)]


def _read_row(line: str, place: str) -> Prediction:
    try:
        return _SCHEMA.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the line"
        raise UserError(f"{place}: {field}: {first['msg']}; not a row of predictions, evaluate again") from error
