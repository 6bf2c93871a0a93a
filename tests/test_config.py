"""The configuration's faults as a user reads them, and its identity."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from adapter_exp.config import Config, parse_config
from adapter_exp.config_faults import PATTERNS, shown
from adapter_exp.errors import UserError
from adapter_exp.files import conf_folder
from adapter_exp.hydra_faults import hydra_faults, is_hydra_fault
from adapter_exp.models.shape import read_shape
from adapter_exp.preparation import check_against_model


def values_of(*overrides: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(composed_text(*overrides))
    return values


@functools.cache
def composed_text(*overrides: str) -> str:
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_folder())):
        values = OmegaConf.to_container(compose("config", overrides=list(overrides)), resolve=True)
    return json.dumps(values)


def faults(*overrides: str) -> list[str]:
    """What the command line tells about these overrides, before a model is needed."""
    try:
        parse_config(values_of(*overrides))
    except UserError as error:
        return list(error.faults)
    except Exception as error:  # noqa: BLE001 - Hydra raises many classes
        assert is_hydra_fault(error), error
        return hydra_faults(error, overrides)
    return []


WHOLE = "is not a whole number; use a whole number"
LAYERS = "Use all, last:N, first:N, every:N, or a list of layer numbers from 0."
ONE_LINE = [
    ("adapter.r=0", "adapter.r: 0 is too small; use a whole number, at least 1."),
    ("adapter.r=-1", "adapter.r: -1 is too small; use a whole number, at least 1."),
    ("adapter.r=1.5", f"adapter.r: 1.5 {WHOLE}, at least 1."),
    ("adapter.r=abc", f"adapter.r: 'abc' {WHOLE}, at least 1."),
    ("adapter.r=true", f"adapter.r: true {WHOLE}, at least 1."),
    ("adapter.r=null", f"adapter.r: null {WHOLE}, at least 1."),
    ("adapter.r=", f"adapter.r: '' {WHOLE}, at least 1."),
    ("adapter.alpha=inf", "adapter.alpha: inf is not a finite number; use a number, above 0."),
    ("adapter.dropout=1", "adapter.dropout: 1 is too large; use a number, at least 0 and below 1."),
    ("adapter.layers=every:0", f"adapter.layers: 'every:0' is not a choice of layers. {LAYERS}"),
    ("adapter.layers=null", f"adapter.layers: null is not a choice of layers. {LAYERS}"),
    ("adapter.layers=[]", f"adapter.layers: []: an empty list names no layer. {LAYERS}"),
    ("adapter.layers=[0,-1]", f"adapter.layers: [0, -1]: -1 is not a layer number. {LAYERS}"),
    ("adapter.layers=[0,a]", f"adapter.layers: [0, 'a']: 'a' is not a layer number. {LAYERS}"),
    ("adapter.target_modules=[]", "adapter.target_modules: [] is empty; give it a value."),
    ("adapter.target_modules=[1]", "adapter.target_modules[0]: 1 is not text."),
    (
        "adapter.target_modules=q_proj",
        "adapter.target_modules: 'q_proj' is not a list; write it in brackets (adapter.target_modules=[...]).",
    ),
    (
        "adapter.kind=lorra",
        "adapter.kind: 'lorra' is unknown. Did you mean lora or lora_mlp? "
        "Use one of: lora, mlp, lora_mlp, full, none, saved.",
    ),
    (
        "trainer.learning_rate=abc",
        "trainer.learning_rate: 'abc' is not a number; use a number, above 0 and at most 1.",
    ),
    (
        "trainer.learning_rate=true",
        "trainer.learning_rate: true is not a number; use a number, above 0 and at most 1.",
    ),
    ("trainer.epochs=inf", "trainer.epochs: inf is not a finite number; use a number, above 0."),
    ("trainer.max_steps=0", "trainer.max_steps: 0 is too small; use a whole number, at least 1, or null."),
    (
        "trainer.scheduler=cos",
        "trainer.scheduler: 'cos' is unknown. Did you mean cosine? Use one of: cosine, linear, constant.",
    ),
    ("trainer.load_best=maybe", "trainer.load_best: 'maybe' is not true or false."),
    ("device=gpu", "device: 'gpu' does not fit; use auto, cpu, cuda or cuda:N."),
    ("device=3", "device: 3 is not text; use auto, cpu, cuda or cuda:N."),
    ("seed=-1", "seed: -1 is too small; use a whole number, at least 0 and below 4294967296."),
    ("seed=???", "seed: is missing; give it a value (seed=...)."),
    ("resume=yes", "resume: 'yes' is unknown. Use one of: never, auto."),
    ("cache_dir=", "cache_dir: '' is empty; give it a value."),
    ("eval.special=[nerrus]", "eval.special[0]: 'nerrus' is not a task. Did you mean nerus? Tasks: nerus, terra."),
    ("eval.special=nerus", "eval.special: 'nerus' is not a list; write it in brackets (eval.special=[...])."),
    ("~eval.tasks.terra", "eval.tasks.terra: is missing; eval scores this task, so give it its settings."),
    (
        "eval.tasks.terra.name=nerus",
        "eval.tasks.terra.name: 'nerus' is another task; write its settings as eval.tasks.nerus.",
    ),
    ("eval.tasks.terra=null", "eval.tasks.terra: null is not a section of keys."),
    ("model.name='a b'", f"model.name: 'a b' does not fit; use {PATTERNS[r'^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$']}."),
    ("task.prompt=hello", "task.prompt: 'hello' must have the fields {text} and no others; write a plain brace twice."),
    ("task.types=[PER,PER]", "task.types: ['PER', 'PER'] names a type twice."),
    (
        "task.types=[PER,per]",
        "task.types[1]: 'per' does not fit; use capital letters, digits and '_', starting with a letter.",
    ),
    ("task.stop=['']", "task.stop[0]: '' is empty; give it a value."),
    (
        "tracking.uri=http://me:secret@host",
        "tracking.uri: 'http://...@host' holds a password; "
        "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead.",
    ),
    ("adapter=null", "adapter=null: a group takes a name, as in adapter=lora."),
    (
        "adapter=lorra",
        "adapter: 'lorra' is unknown. Did you mean lora or dora or lora_mlp? "
        "Use one of: dora, full, lora, lora_mlp, mlp, none, saved.",
    ),
    ("+adapter.kind=mlp", "adapter.kind: exists already; leave out the + before it."),
    ("~nope", "nope: cannot be deleted, as there is no such key."),
    ("adapter.r", "adapter.r: is not an override; write key=value."),
    ("task.path=a=b", "task.path: a=b cannot be read without quotes; write 'task.path=\"a=b\"'."),
    ("task.system=Имена", "task.system: Имена cannot be read without quotes; write 'task.system=\"Имена\"'."),
    (
        "task.prompt={text} {x}",
        "task.prompt: {text} {x} cannot be read; close every bracket and quote, "
        "and put a text in quotes inside quotes: 'task.prompt=\"...\"'.",
    ),
    (
        "adapter.r=1,2",
        "adapter.r: 1,2 are several values; for a list write adapter.r=[1,2], "
        "for one text 'adapter.r=\"1,2\"', to run each add -m.",
    ),
    ("adapter.r=${nope}", "adapter.r: interpolation key 'nope' not found."),
    ("hydra.job.foo=1", "hydra.job.foo: unknown key; `--cfg job` shows every key."),
]


@pytest.mark.parametrize(("override", "line"), ONE_LINE, ids=[override for override, _ in ONE_LINE])
def test_a_fault_is_one_line_with_key_value_and_what_is_allowed(override: str, line: str):
    assert faults(override) == [line]


@pytest.mark.parametrize("plus", ["", "+"])
@pytest.mark.parametrize(
    ("group", "key", "near"),
    [
        ("adapter=lora", "adapter.new", None),
        ("adapter=lora", "adapter.targetmodules", "target_modules"),
        ("adapter=mlp", "adapter.r", None),
        ("adapter=lora_mlp", "adapter.lora.layer", "layers"),
        ("adapter=lora_mlp", "adapter.mlp.hidden", "hidden_dim"),
        ("task=nerus", "eval.tasks.terra.maxtrain", "max_train"),
        ("task=nerus", "eval.tasks.terra.labels.entailed", "entailment"),
        ("task=nerus", "trainer.lr", "learning_rate"),
        ("task=nerus", "sed", "seed"),
    ],
)
def test_an_unknown_key_of_any_depth_is_named_with_the_nearest_known_ones(group, key, near, plus):
    [line] = faults(group, f"{plus}{key}=1")
    assert line.startswith(f"{key}: unknown key.")
    assert "Known keys here: " in line
    if near:
        assert re.search(rf"Did you mean [^?]*\b{near}\b", line)


def test_all_faults_of_a_configuration_are_told_in_one_go():
    told = faults(
        "model=hub", "adapter.r=0", "adapter.rnk=1", "trainer.lr=1", "eval.general=[nope]", "task.max_eval=x", "seed=-1"
    )
    assert [line.partition(": ")[0] for line in told] == [
        "model.id",
        "adapter.r",
        "adapter.rnk",
        "task.max_eval",
        "trainer.lr",
        "eval.general[0]",
        "seed",
    ]


@pytest.mark.parametrize(
    ("overrides", "key"),
    [(["model=hub"], "model.id"), (["model=folder"], "model.path"), (["adapter=saved"], "adapter.path")],
)
def test_a_value_that_the_user_has_to_give_is_missing(overrides: list[str], key: str):
    assert faults(*overrides) == [f"{key}: is missing; give it a value ({key}=...)."]


def test_a_key_that_the_chosen_file_leaves_out_can_be_added():
    [line] = faults("tracking=none", "tracking.uri=http://host")
    assert line == "tracking.uri: is not among the keys of the chosen files; write +tracking.uri=... to add it."
    assert faults("tracking=none", "+tracking.uri=http://host") == []


def test_an_experiment_that_does_not_exist_is_refused():
    [line] = faults("experiment=published_lora_r33")
    assert line.startswith("experiment: 'published_lora_r33' is unknown. Did you mean published_lora_r32")


def test_a_rule_of_a_whole_section_names_its_key():
    assert faults("task.min_chars=10", "task.max_chars=5") == ["task.min_chars: 10 is above max_chars (5)."]
    [line] = faults("task=terra", "task.labels.entailment=no", "task.labels.not_entailment=NO")
    assert line == "task.labels: both are answered by 'no'; use two different words."


def changed(key: str, value: Any) -> dict[str, Any]:
    """The default values with one key set."""
    values = place = values_of()
    *sections, last = key.split(".")
    for section in sections:
        place = place[section]
    place[last] = value
    return values


KEYS = (
    "adapter.r",
    "adapter.layers",
    "adapter.kind",
    "trainer.scheduler",
    "task.prompt",
    "task.empty_answer",
    "device",
    "eval.special",
    "eval.tasks.terra.labels",
    "eval.tasks",
    "tracking.uri",
    "model.name",
    "model.source",
    "seed",
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=120),
    st.lists(st.text(max_size=5), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


@settings(deadline=None)  # the first example composes the defaults
@given(st.sampled_from(KEYS), VALUES)
def test_any_value_is_taken_or_refused_in_lines_that_name_the_key(key: str, value: Any):
    try:
        parse_config(changed(key, value))
    except UserError as error:
        for line in error.faults:
            assert line.startswith(key), line
            assert line.splitlines() == [line]
            assert not re.search(r"pydantic|Value error|Input should|type=", line.replace(shown(value), ""))


def test_a_value_is_shown_as_it_is_typed():
    assert [shown(value) for value in (None, True, 1.5, "x", (1, None))] == ["null", "true", "1.5", "'x'", "[1, null]"]
    assert len(shown("x" * 500)) == 80


def patterns_in(schema: Any) -> set[str]:
    if isinstance(schema, list):
        return set().union(*map(patterns_in, schema))
    if not isinstance(schema, dict):
        return set()
    own = {schema["pattern"]} if isinstance(schema.get("pattern"), str) else set()
    return own.union(*map(patterns_in, schema.values()))


def test_every_pattern_of_the_schema_is_explained_in_words():
    assert patterns_in(Config.model_json_schema()) == set(PATTERNS)


# Against the model's own configuration.


def model_faults(cache: Path, *overrides: str) -> list[str]:
    config = parse_config(values_of("model=tiny", "device=cpu", *overrides))
    with pytest.raises(UserError) as caught:
        check_against_model(config, read_shape(config.model, cache))
    return list(caught.value.faults)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["adapter.layers=last:40"], ["adapter.layers: 'last:40' asks for 40 layers, but tiny has 4. Use last:4 or"]),
        (["adapter.layers=[0,9]"], ["adapter.layers: layer 9 is out of range: tiny has layers 0 to 3."]),
        (
            ["adapter.target_modules=[q_prj,foo]"],
            [
                "adapter.target_modules: 'q_prj' is not a linear layer in tiny. Did you mean q_proj",
                "adapter.target_modules: 'foo' is not a linear layer in tiny. It has q_proj, k_proj",
            ],
        ),
        (
            ["adapter.r=40", "adapter.target_modules=[q_proj,k_proj]"],
            ["adapter.r: 40 is more than the smaller side of k_proj (64 to 32) in tiny. Use 32 or less"],
        ),
        (["adapter=full"], ["adapter: 'full' cannot train a base stored as nf4"]),
        (["model.max_length=4096"], ["model.max_length: 4096 is more than tiny's context of 1024 tokens."]),
        (
            ["trainer.optimizer=paged_adamw_8bit", "trainer.precision=fp16", "adapter.layers=first:5"],
            [
                "adapter.layers: 'first:5'",
                "trainer.optimizer: 'paged_adamw_8bit' needs a CUDA",
                "trainer.precision: 'fp16'",
            ],
        ),
        (["adapter=saved", "adapter.path=/nowhere", "model.max_length=2000"], ["adapter.path: ", "model.max_length: "]),
        (["device=cuda:77"], ["device: 'cuda:77' is not there"]),
    ],
)
def test_what_the_model_or_the_machine_does_not_allow(tmp_path: Path, overrides: list[str], told: list[str]):
    found = model_faults(tmp_path, *overrides)
    assert len(found) == len(told)
    for line, start in zip(found, told, strict=True):
        assert line.startswith(start)


# Identity: equal hashes mean equal numbers.


def sha256(*overrides: str) -> str:
    return parse_config(values_of(*overrides)).sha256


@pytest.mark.parametrize(
    "override",
    [
        "resume=auto",
        "tracking=none",
        "tracking.experiment=other",
        "cache_dir=/elsewhere",
        "output_dir=/elsewhere",
        "quantization.keep=4bit",
    ],
)
def test_the_hash_leaves_out_what_changes_no_number(override: str):
    assert sha256(override) == sha256()


@pytest.mark.parametrize("key", ["eval.tasks.nerus.max_eval", "eval.tasks.nerus.path"])
def test_the_hash_leaves_out_settings_of_a_task_that_is_not_scored(key: str):
    # the trained task's own settings stand in `task`
    assert parse_config(changed(key, 7 if key.endswith("eval") else "elsewhere")).sha256 == sha256()


def test_the_hash_leaves_out_a_task_that_is_scored_no_more():
    without, with_settings = changed("eval.general", []), changed("eval.general", [])
    with_settings["eval"]["tasks"]["terra"]["max_eval"] = 7
    assert parse_config(without).sha256 == parse_config(with_settings).sha256


# One other valid value of every key that decides a number.
OTHER_FILES = ("model=tiny", "quantization=int8", "adapter=mlp", "task=terra")
OTHER_VALUES = """
    model.chat=never model.max_length=512 model.dtype=bfloat16 model.name=other quantization.double_quant=false
    adapter.r=8 adapter.alpha=8 adapter.dropout=0.1 adapter.layers=last:4 adapter.target_modules=[q_proj]
    adapter.dora=true adapter.rslora=true
    task.version=2 task.path=elsewhere task.max_train=7 task.max_validation=7 task.max_eval=7 task.split_seed=7
    task.system=other task.prompt="!{text}" task.empty_answer=x task.types=[PER] task.min_chars=7 task.max_chars=7
    task.stop=[x] task.max_new_tokens=7
    trainer.epochs=7 trainer.max_steps=7 trainer.batch_size=7 trainer.gradient_accumulation_steps=7
    trainer.learning_rate=0.1 trainer.weight_decay=0.1 trainer.max_grad_norm=7 trainer.warmup_ratio=0.2
    trainer.scheduler=linear trainer.optimizer=paged_adamw_8bit trainer.precision=fp32 trainer.load_best=false
    trainer.eval_steps=7 trainer.early_stopping_patience=7 trainer.length_buckets=false
    eval.special=[terra] eval.general=[] eval.batch_size=7 eval.resamples=700 eval.validation=false
    eval.tasks.terra.max_eval=7 seed=1 device=cpu
"""


def test_the_hash_changes_with_every_value_that_decides_a_number():
    found = [sha256(choice) for choice in OTHER_FILES]
    for override in OTHER_VALUES.split():
        key, _, text = override.partition("=")
        found.append(parse_config(changed(key, yaml.safe_load(text))).sha256)
    assert len({sha256(), *found}) == len(found) + 1


def test_the_hash_survives_the_record():
    config = parse_config(values_of())
    stored = json.loads(json.dumps(config.model_dump(mode="json")))
    assert parse_config(stored).sha256 == config.sha256


def test_the_general_task_is_never_the_trained_one():
    config = parse_config(values_of("task=terra"))
    assert [task.name for task in config.special_tasks] == ["terra"]
    assert [task.name for task in config.general_tasks] == ["nerus"]
    # the trained task's settings are used where it is scored
    config = parse_config(values_of("task.max_eval=9", "eval.general=[nerus,terra]", "eval.special=[terra,terra]"))
    assert [task.name for task in config.special_tasks] == ["terra"]
    assert [(task.name, task.max_eval) for task in config.general_tasks] == [("nerus", 9)]
