"""Task settings as the YAML files have them, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from adapter_exp.tasks.config import TaskConfig
from adapter_exp.tasks.registry import config_class

CONF = Path(__file__).parents[1] / "conf" / "task"


def task_config(name: str, **changes: Any) -> TaskConfig:
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    return config_class(name).model_validate(values | changes)


ALL = {"max_train": None, "max_validation": None, "max_eval": None}

SENTENCE = """\
# newdoc id = {doc}
# sent_id = {doc}_0
# text = {text}
"""


def token_lines(*pairs: tuple[str, str]) -> str:
    rows = [f"{i}\t{form}" + "\t_" * 7 + f"\tTag={tag}\n" for i, (form, tag) in enumerate(pairs, start=1)]
    return "".join(rows) + "\n"


def sentence(text: str, *pairs: tuple[str, str], doc: str = "0") -> str:
    return SENTENCE.format(doc=doc, text=text) + token_lines(*pairs)


ANNA = sentence(
    "Анна Зимина живёт в Туле.",
    ("Анна", "B-PER"),
    ("Зимина", "I-PER"),
    ("живёт", "O"),
    ("в", "O"),
    ("Туле", "B-LOC"),
    (".", "O"),
)
