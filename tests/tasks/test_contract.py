"""What every task must do; a new task adds one row to CASES."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import yaml
from task_samples import ALL, CONF, task_config

from adapter_exp.data.fingerprint import dataset_fingerprint, item_hash
from adapter_exp.errors import UserError
from adapter_exp.tasks.config import TaskConfig
from adapter_exp.tasks.protocol import Answer, Choose, Example, Generate, Task
from adapter_exp.tasks.registry import build_task, config_class, task_names

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Case:
    """One task.

    Attributes:
        sizes: items of the bundled sample's splits.
        texts: hash of every text that can change a score, by version: changing one means moving the version.
        wrong: an answer that parses and is right for no example whose target is not it.
        unreadable: an answer that does not parse.
    """

    name: str
    sizes: tuple[int, int, int]
    version: int
    texts: str
    wrong: Callable[[Task, Example], str]
    unreadable: str = "I cannot say."


CASES = [
    Case("nerus", (240, 60, 120), 1, "2052e21af6d845ed", lambda task, example: "[Кто-то](PER)"),
    Case(
        "terra",
        (120, 40, 120),
        1,
        "6c3176ea642ad4c5",
        lambda task, example: {"да": "нет", "нет": "да"}[task.target(example)],
    ),
]
TEXT_FIELDS = ("system", "prompt", "empty_answer", "types", "labels", "stop", "max_new_tokens")


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def task(case: Case) -> Task:
    return build_task(task_config(case.name, **ALL))


def answers(task: Task, example: Example, text: str) -> list[Answer]:
    """The answers of a model that says ``text`` and finds it the likeliest label."""
    given = {
        Generate: lambda request: Answer(texts=(text,)),
        Choose: lambda request: Answer(logprobs=tuple(0.0 if label == text else -1.0 for label in request.labels)),
    }
    return [given[type(request)](request) for request in task.requests(example)]


def test_every_task_has_a_row():
    assert {case.name for case in CASES} == set(task_names()) == {file.stem for file in CONF.glob("*.yaml")}


def test_yaml_states_every_setting(case: Case):
    """A default in the code would be a text that the YAML does not show."""
    values = yaml.safe_load((CONF / f"{case.name}.yaml").read_text(encoding="utf-8"))
    assert set(values) == set(config_class(case.name).model_fields)


def test_version_moves_with_the_texts(case: Case):
    config = task_config(case.name).model_dump(mode="json")
    texts = json.dumps({key: config[key] for key in TEXT_FIELDS if key in config}, ensure_ascii=False)
    assert (config["version"], hashlib.sha256(texts.encode()).hexdigest()[:16]) == (case.version, case.texts), (
        "a text changed: move `version` in the YAML, then put the new version and hash here"
    )


def test_bundled_sizes(case: Case, task: Task):
    assert tuple(len(task.load(split)) for split in SPLITS) == case.sizes


@pytest.mark.parametrize("split", SPLITS)
def test_loading_is_deterministic(case: Case, split):
    first, second = (build_task(task_config(case.name)).load(split) for _ in range(2))
    assert list(first) == list(second)
    assert len(first) == getattr(task_config(case.name), {"test": "max_eval"}.get(split, f"max_{split}"))


@pytest.mark.parametrize("split", SPLITS)
def test_smaller_draw_is_the_beginning_of_a_larger_one(case: Case, task: Task, split):
    few = build_task(task_config(case.name, max_train=7, max_validation=7, max_eval=7))
    assert list(few.load(split)) == list(task.load(split))[:7]


def test_another_split_seed_draws_other_items(case: Case):
    drawn = [{e.id for e in build_task(task_config(case.name, split_seed=s)).load("test")} for s in (0, 1)]
    assert drawn[0] != drawn[1]


def test_item_hashes_are_unique_and_stable(case: Case, task: Task):
    hashes = [item_hash(task.name, task.content(e)) for split in SPLITS for e in task.load(split)]
    assert len(set(hashes)) == len(hashes) == sum(case.sizes)
    again = build_task(task_config(case.name, **ALL))
    assert hashes == [item_hash(again.name, again.content(e)) for split in SPLITS for e in again.load(split)]
    assert len({dataset_fingerprint(task, task.load(split)) for split in SPLITS}) == 3


def test_target_is_scored_perfectly(task: Task):
    outcomes = [task.score(e, answers(task, e, task.target(e))) for s in SPLITS for e in task.load(s)]
    metrics = aggregate(task, outcomes)
    assert all(o.parsed for o in outcomes)
    assert metrics == dict.fromkeys(metrics, 1.0)


def test_wrong_answers_score_zero_and_still_parse(case: Case, task: Task):
    outcomes = [task.score(e, answers(task, e, case.wrong(task, e))) for e in task.load("test")]
    metrics = aggregate(task, outcomes)
    assert metrics.pop("parse_rate") == 1.0
    assert metrics == dict.fromkeys(metrics, 0.0)


def test_unreadable_answers_are_counted_and_never_right(case: Case, task: Task):
    outcomes = [task.score(e, answers(task, e, case.unreadable)) for e in task.load("test")]
    assert not any(o.parsed for o in outcomes)
    metrics = aggregate(task, outcomes)
    assert metrics["parse_rate"] == 0.0
    assert not any(value for name, value in metrics.items() if not name.endswith("_loglik"))


def test_statistics_have_equal_keys_and_outcomes_are_json(case: Case, task: Task):
    texts = (case.unreadable, "", case.wrong(task, task.load("test")[0]))
    outcomes = [task.score(e, answers(task, e, text)) for e in task.load("test")[:5] for text in texts]
    assert len({tuple(sorted(o.statistics)) for o in outcomes}) == 1
    json.dumps([o.prediction for o in outcomes])


def test_aggregate_is_vectorised(case: Case, task: Task):
    """Sums of shape (2, 9) give what nine times two plain evaluations give."""
    rng = np.random.default_rng(0)
    examples = task.load("test")[:30]
    texts = [rng.choice([task.target(e), case.wrong(task, e), case.unreadable]) for e in examples]
    outcomes = [task.score(e, answers(task, e, str(text))) for e, text in zip(examples, texts, strict=True)]
    counts = rng.multinomial(len(outcomes), np.full(len(outcomes), 1 / len(outcomes)), size=(2, 9))
    counts[0, 0] = 0  # nothing drawn: every denominator is empty
    keys = outcomes[0].statistics
    sums = {key: counts @ np.array([o.statistics[key] for o in outcomes]) for key in keys}
    vectorised = task.aggregate(sums)
    assert all(not value[0, 0] for name, value in vectorised.items() if name != "parse_rate")
    for index in np.ndindex(2, 9):
        drawn = [o for o, n in zip(outcomes, counts[index], strict=True) for _ in range(n)]
        if drawn:
            assert {name: value[index] for name, value in vectorised.items()} == pytest.approx(aggregate(task, drawn))


def test_primary_metric_and_baselines_are_metrics(task: Task):
    outcomes = [task.score(e, answers(task, e, task.target(e))) for e in task.load("test")]
    metrics = aggregate(task, outcomes)
    assert task.primary in metrics
    baselines = task.baselines(outcomes)
    assert task.primary in baselines
    assert set(baselines) <= set(metrics)
    assert all(0.0 <= value < 1.0 for value in baselines.values())


def test_baselines_do_not_depend_on_the_answers(case: Case, task: Task):
    examples = task.load("test")
    right = task.baselines([task.score(e, answers(task, e, task.target(e))) for e in examples])
    unread = task.baselines([task.score(e, answers(task, e, case.unreadable)) for e in examples])
    assert right == unread


def test_settings_reject_what_they_do_not_know(case: Case):
    with pytest.raises(ValueError, match="surprise"):
        task_config(case.name, surprise=1)
    for key in ("max_train", "max_validation", "max_eval", "version", "max_new_tokens"):
        for value in (0, -1, True, 1.5, "many"):
            with pytest.raises(ValueError, match=key):
                task_config(case.name, **{key: value})
    with pytest.raises(ValueError, match="split_seed"):
        task_config(case.name, split_seed=-1)


@pytest.mark.parametrize("prompt", ["no field", "{text} {other}", "{text", "{text!r}{premise}{hypothesis}", "{}"])
def test_prompt_template_must_have_its_fields(case: Case, prompt: str):
    with pytest.raises(ValueError, match="prompt"):
        task_config(case.name, prompt=prompt)


def test_unknown_task_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"'nerrus' is not a task. Did you mean 'nerus'\? Tasks: nerus, terra"):
        config_class("nerrus")


def test_settings_import_neither_torch_nor_numpy():
    import subprocess
    import sys

    code = "import sys, adapter_exp.tasks.config; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def aggregate(task: Task, outcomes) -> dict[str, float]:
    sums = {key: np.asarray(sum(o.statistics[key] for o in outcomes)) for key in outcomes[0].statistics}
    return {name: float(value) for name, value in task.aggregate(sums).items()}


def test_config_types(case: Case):
    assert isinstance(task_config(case.name), TaskConfig)
    with pytest.raises(ValueError, match="frozen"):
        task_config(case.name).version = 2
