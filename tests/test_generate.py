"""Saved runs answer prompts in a fresh process: adapter off and on, several by name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import experiment_samples
import pytest

from adapter_exp import generate
from adapter_exp.experiment import run_experiment
from adapter_exp.report import terminal

SHORT = ["--max-new-tokens", "4", "--device", "cpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny model whose adapter moves its answers."""
    root = tmp_path_factory.mktemp("run")
    config = experiment_samples.config(root, "quantization=none", "trainer.learning_rate=0.5", "eval.general=[]")
    run_experiment(config, root / "outputs" / "first")
    return root / "outputs" / "first"


@pytest.fixture(scope="module")
def bare(run: Path) -> Path:
    """A finished run of the base alone, on the same base."""
    config = experiment_samples.config(run.parents[1], "quantization=none", "adapter=none", "eval.general=[]")
    run_experiment(config, run.parent / "bare")
    return run.parent / "bare"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(terminal, "FILE_WIDTH", 1000)
    monkeypatch.setattr(terminal, "MAX_WIDTH", 1000)


# The tiny model answers with any characters, line feeds included.
ANSWER = re.compile(r"^(\w+)  ([^\n]*)\n(.*?)\n(\d+ tokens in \d+\.\d s, \d+\.\d tokens/s)$", re.MULTILINE | re.DOTALL)


def answers(out: str) -> dict[str, str]:
    """The texts by their headings: the name and the prompt."""
    return {f"{name}  {prompt}": text for name, prompt, text, _ in ANSWER.findall(out)}


def fault(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert generate.main([*arguments]) == 2
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return printed.err.strip()


def test_a_prompt_is_answered_with_the_adapter_off_and_on(run: Path, capsys):
    assert generate.main([str(run), "--prompt", "Пётр приехал в Тверь.", *SHORT]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("note system message: Выпиши имена")
    found = answers(printed)
    assert list(found) == ["base  Пётр приехал в Тверь.", "first  Пётр приехал в Тверь."]
    off, on = found.values()
    assert off != on


def test_several_prompts_and_no_system_message(run: Path, capsys):
    arguments = [str(run), "--prompt", "one", "--prompt", "two", "--adapter", "first", "--system", "", *SHORT]
    assert generate.main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("note no system message")
    assert list(answers(printed)) == ["first  one", "first  two"]


def test_several_runs_are_asked_by_name(run: Path, bare: Path, tmp_path: Path, capsys):
    other = shutil.copytree(run, tmp_path / "other")
    runs = [str(run), str(other), str(bare)]
    assert generate.main([*runs, "--prompt", "x", *SHORT]) == 0
    found = answers(capsys.readouterr().out)
    assert list(found) == ["base  x", "first  x", "other  x"]
    assert found["first  x"] == found["other  x"]
    assert generate.main([*runs, "--prompt", "x", "--adapter", "other", "--adapter", "base", *SHORT]) == 0
    again = answers(capsys.readouterr().out)
    assert list(again) == ["other  x", "base  x"]
    assert again["base  x"] == found["base  x"]
    line = fault(capsys, *runs, "--prompt", "x", "--adapter", "frist")
    assert line == "error --adapter: 'frist' is unknown; use one of: base, first, other."


def test_sampling_is_drawn_by_its_seed_and_cut_by_top_p(run: Path, capsys):
    def text(*options: str) -> str:
        arguments = [str(run), "--prompt", "x", "--adapter", "base", "--max-new-tokens", "12", "--device", "cpu"]
        assert generate.main([*arguments, *options]) == 0
        return answers(capsys.readouterr().out)["base  x"]

    drawn = {seed: text("--temperature", "5", "--seed", seed) for seed in ("1", "2")}
    assert drawn["1"] != drawn["2"]
    assert text("--temperature", "5", "--seed", "1") == drawn["1"]
    # so small a share leaves the likeliest token alone
    assert text("--temperature", "5", "--top-p", "1e-6") == text()
    assert text("--repetition-penalty", "9") != text()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--temperature", "-1"], "error --temperature: -1.0 is below 0; use 0 (greedy) or more."),
        (["--temperature", "nan"], "error --temperature: nan is not a finite number; use 0 (greedy) or more."),
        (["--top-p", "0"], "error --top-p: 0.0 is not above 0 and at most 1."),
        (["--repetition-penalty", "0"], "error --repetition-penalty: 0.0 is not above 0; 1 is none."),
        (["--max-new-tokens", "0"], "error --max-new-tokens: 0 is below 1."),
        (["--device", "gpu"], "error --device: 'gpu' is unknown; use auto, cpu, cuda or cuda:N."),
        (["--prompt", " "], "error --prompt: is empty; give the user's message."),
    ],
)
def test_a_bad_option_is_refused(run: Path, options: list[str], line: str, capsys):
    assert fault(capsys, str(run), "--prompt", "x", *options) == line


def test_all_bad_options_are_told_in_one_go(run: Path, capsys):
    told = fault(capsys, str(run), str(run), "--prompt", "x", "--top-p", "2", "--max-new-tokens", "-3")
    assert [line.split()[1] for line in told.splitlines()] == ["--top-p:", "--max-new-tokens:", "first:"]


def test_what_does_not_fit_the_context_is_refused(run: Path, capsys):
    told = fault(capsys, str(run), "--prompt", "x" * 2000, *SHORT)
    assert re.fullmatch(
        r"error --prompt: has \d{4} tokens; with --max-new-tokens 4 it exceeds the limit of 1024\.", told
    )
    assert "--max-new-tokens 1024" in fault(capsys, str(run), "--prompt", "x", "--max-new-tokens", "1024")


def test_a_folder_that_holds_no_usable_run_is_refused(run: Path, tmp_path: Path, capsys):
    missing = fault(capsys, str(tmp_path / "nope"), "--prompt", "x")
    assert missing.startswith("error ") and "nope" in missing
    assert len(missing.splitlines()) == 1
    cut = shutil.copytree(run, tmp_path / "cut")
    shutil.rmtree(cut / "adapter")
    told = fault(capsys, str(cut), "--prompt", "x")
    assert told == f"error {cut / 'adapter'}: this run saved no adapter; choose one that ended well."


def test_an_adapter_of_another_base_is_refused(run: Path, tmp_path: Path, capsys):
    other = experiment_samples.config(tmp_path, "model.seed=7", "quantization=none", "adapter=none", "eval.general=[]")
    run_experiment(other, tmp_path / "elsewhere")
    capsys.readouterr()
    arguments = [str(tmp_path / "elsewhere"), str(run), "--prompt", "x", "--adapter", "first"]
    told = fault(capsys, *arguments, *SHORT)
    assert "was trained on tiny" in told
    assert len(told.splitlines()) == 1
