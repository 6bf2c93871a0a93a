"""Write the texts of a configuration's tasks for the peers, and what is known of the rows and the model.

    python benchmarks/data.py FOLDER task.max_train=48 adapter.layers=last:4     # overrides as for a run

FOLDER gets TASK.train.jsonl and TASK.test.jsonl (prompt and completion as the model reads them, chat template applied;
choices where labels are scored) and facts.json. Prompt + completion + end token are the very tokens that a run uses.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import adapter_exp.resolvers  # noqa: F401 - the configuration asks for its names
from adapter_exp.config import Config, parse_config
from adapter_exp.data.rendering import Renderer, TrainingRow
from adapter_exp.files import conf_folder
from adapter_exp.models.shape import shape_of_folder
from adapter_exp.models.sources import resolve
from adapter_exp.models.tokenizer import load_tokenizer
from adapter_exp.preparation import TaskData, load_data
from adapter_exp.tasks.protocol import Choose


def main(folder: Path, overrides: Sequence[str]) -> None:
    """Write rows and facts."""
    config = composed(overrides)
    cache_dir = Path(config.cache_dir).expanduser()
    checkpoint = resolve(config.model, cache_dir)
    tokenizer, _ = load_tokenizer(checkpoint.folder, config.model.name)
    shape = shape_of_folder(checkpoint.folder, config.model.name)
    vocabulary = json.loads((checkpoint.folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    sizes = {name: inputs * outputs for name, (inputs, outputs) in shape.linears.items()}
    facts: dict[str, Any] = {
        "model": str(checkpoint.folder),
        "layers": shape.num_layers,
        "layer_parameters": sum(sizes.values()),
        "query_parameters": sizes["q_proj"],
        "key_value_parameters": sizes["k_proj"] + sizes["v_proj"],
        "head_parameters": shape.hidden_size * vocabulary,
    }
    chat = bool(tokenizer.chat_template)
    folder.mkdir(parents=True, exist_ok=True)
    for data in load_data(config):
        renderer = Renderer(tokenizer, system=data.task.system, chat=chat, max_length=shape.context_tokens)
        facts[data.task.name] = _write_task(folder, data, renderer)
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def composed(overrides: Sequence[str]) -> Config:
    """The configuration that ``python -m adapter_exp.run`` would make of ``overrides``."""
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        values: Any = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    return parse_config(values)


def _write_task(folder: Path, data: TaskData, renderer: Renderer) -> dict[str, Any]:
    facts: dict[str, Any] = {"max_new_tokens": data.task.max_new_tokens}
    for split, examples in data.examples.items():
        lines, rows = [], []
        for example in examples:
            user, target = data.task.prompt(example), data.task.target(example)
            line: dict[str, Any] = {"prompt": renderer.prompt_text(user), "completion": target}
            for request in data.task.requests(example):
                if isinstance(request, Choose):
                    end = renderer.tokenizer.decode([renderer.end_id])
                    line["choices"] = [label + end for label in request.labels]
                    line["gold"] = request.labels.index(target)
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
            rows.append(renderer.training_row(user, target))
        (folder / f"{data.task.name}.{split}.jsonl").write_text("".join(lines), encoding="utf-8")
        facts[split] = _row_facts(rows)
    return facts


def _row_facts(rows: Sequence[TrainingRow]) -> dict[str, int]:
    """Rows, their tokens, answer tokens, and the tokens that all rows begin with."""
    columns = zip(*(row.ids[: row.prompt_tokens] for row in rows), strict=False)
    prefix = list(takewhile(lambda column: len(set(column)) == 1, columns))
    return {
        "rows": len(rows),
        "tokens": sum(len(row.ids) for row in rows),
        "answer_tokens": sum(len(row.ids) - row.prompt_tokens for row in rows),
        "longest": max((len(row.ids) for row in rows), default=0),
        "prefix_tokens": len(prefix),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
