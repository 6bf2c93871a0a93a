"""What the terminal says, in and out of a TTY."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from adapter_exp.errors import UserError
from adapter_exp.report import words
from adapter_exp.report.progress import Progress
from adapter_exp.report.terminal import make_console, print_error, print_notes, print_summary
from adapter_exp.tracking.record import RecordData, RunRecord


def _summary(record: RecordData, width: int, *, terminal: bool = False) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, highlight=False, color_system=None)
    print_summary(record, run_dir=Path("outputs/my run"), console=console)
    return out.getvalue()


def _row(text: str, metric: str) -> str:
    return next(line for line in text.splitlines() if f" {metric} " in line)


def test_a_gain_is_called_higher_and_a_failed_gate_withholds_its_task(data: RecordData):
    text = _summary(data, 110)
    numbers = ["0.000", "0.020", "0.260", "+0.240", "[+0.190,", "+0.290]"]
    assert _row(text, "f1").split() == ["nerus", "f1", *numbers, "higher"]
    assert "withheld" in _row(text, "accuracy_loglik")
    assert "always answering 'entailment'" in text and "no claim but of a loss on terra" in text
    assert "overlap" not in text
    assert text.index(" f1 ") < text.index(" precision ") < text.index(" accuracy_loglik ")


def test_without_the_gate_the_tie_is_called_a_tie(data: RecordData):
    text = _summary({**data, "gates": []}, 110)
    assert "no difference shown" in _row(text, "accuracy_loglik") and "lower" in _row(text, "parse_rate")


@pytest.mark.parametrize("name", ["majority", "parse_failures"])
def test_gates_that_damage_can_fail_withhold_only_good_news(data: RecordData, name: str):
    gate = {"name": name, "passed": False, "reason": "", "task": "nerus", "model": "adapted"}
    text = _summary({**data, "gates": [gate, {**gate, "task": "terra"}]}, 110)
    assert "lower" in _row(text, "parse_rate")
    assert all("withheld" in _row(text, metric) for metric in ("f1", "accuracy_loglik"))


def test_every_other_failed_gate_withholds_a_loss_too(data: RecordData):
    gate = {"name": "overlap", "passed": False, "reason": "", "task": "terra", "model": None}
    text = _summary({**data, "gates": [*data["gates"], gate]}, 110)
    assert "withheld" in _row(text, "parse_rate") and "higher" in _row(text, "f1")
    assert "no claim on terra" in text


def test_what_only_the_base_fails_withholds_nothing(data: RecordData):
    gate = {"name": "parse_failures", "passed": False, "reason": "", "task": "nerus", "model": "base"}
    assert words.withheld_findings({**data, "gates": [gate]}, "nerus") == frozenset()


def test_the_trivial_score_stands_beside_the_models_and_is_a_dash_where_there_is_none(data: RecordData):
    text = _summary(data, 110)
    assert "trivial" in text and _row(text, "accuracy_loglik").split()[2:5] == ["0.530", "0.540", "0.530"]
    assert _row(text, "precision").split()[1:3] == ["-", "0.050"]
    without = {key: value for key, value in data["evaluation"].items() if key != "baseline"}
    assert _row(_summary({**data, "evaluation": without}, 110), "f1").split()[2:4] == ["-", "0.020"]


def test_costs_and_places(data: RecordData):
    text = _summary(data, 110)
    assert "1,843,200 trainable of 136,348,416 (1.35%)" in text
    assert "4 min 14 s: train 3 min 15 s" in text and "1.8 GiB" in text and "413 tokens/s" in text
    assert "python -m adapter_exp.tracking.replay 'outputs/my run'" in text
    logged = {**data, "tracking": {"mlflow": {"logged": True, "run_id": "x", "reason": None}}}
    assert "make ui" in _summary(logged, 110)


@pytest.mark.parametrize("width", [80, 110, 120])
def test_it_fits_and_is_plain_outside_a_terminal(data: RecordData, width: int):
    text = _summary({**data, "gates": []}, width)
    assert "\x1b" not in text and "accuracy_loglik" in text and "difference" in text
    commands = ("log it later", "run folder")
    assert max(len(line) for line in text.splitlines() if not line.startswith(commands)) <= width


def test_a_failed_run_says_why(tmp_path: Path):
    record = RunRecord.create(tmp_path, run_id="bad", config={}, config_hash="h", seed=3)
    record.fail(RuntimeError("first [line]\nsecond"))
    text = _summary(record.data, 100)
    assert "RuntimeError: first [line]" in text and "second" not in text and "failed" in text


def test_numbers_that_were_not_finite_are_shown_as_missing(data: RecordData):
    nothing = {"value": None, "low": None, "high": None}
    changed = {"base": {"nerus": {"f1": nothing}}, "adapted": {"nerus": {"f1": nothing}}, "change": {}}
    assert "not measured" in _row(_summary({**data, "evaluation": changed, "gates": []}, 110), "f1")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.2, "higher"),
        (-0.2, -0.1, "lower"),
        (-0.1, 0.1, "no difference shown"),
        (0.0, 0.2, "no difference shown"),
    ],
)
def test_verdicts(low: float, high: float, expected: str):
    assert words.verdict({"value": (low + high) / 2, "low": low, "high": high}) == expected
    assert words.verdict({"value": 0.0, "low": low, "high": high}, withheld={expected}) == "withheld"


def test_a_gate_without_a_task_withholds_all(data: RecordData):
    gate = {"name": "base_changed", "passed": False, "reason": "", "task": None, "model": None}
    for task in ("nerus", "terra"):
        assert words.withheld_findings({**data, "gates": [gate]}, task) == {words.HIGHER, words.LOWER, words.TIE}


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.44, "8.4 s"), (59.99, "60.0 s"), (195, "3 min 15 s"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, text: str):
    assert words.duration(seconds) == text


def test_errors_are_one_line_per_fault(capsys: pytest.CaptureFixture[str]):
    long = "adapter.layers: 'last:40' asks for 40 layers [all], " + "x" * 200
    print_error(UserError("adapter.r: 0 is below 1", long))
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.splitlines() == ["error adapter.r: 0 is below 1", f"error {long}"]


def test_progress_in_a_file_is_a_few_plain_lines():
    out = io.StringIO()
    console = Console(file=out, width=100)
    with Progress(console, every_s=0.0).phase("train", unit="steps") as phase:
        phase.step(1, 2, loss=0.75, tokens_per_s=412.7)
        phase.step(2, 2, loss=0.5, tokens_per_s=400)
    with Progress(console, every_s=60).phase("evaluate base") as phase:
        for done in range(1, 101):
            phase(done, 100)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3 and "\x1b" not in out.getvalue()
    assert "1/2 steps, loss 0.7500, 413 tokens/s" in lines[0] and "left" in lines[0]
    assert "2 steps" in lines[1] and "100 items" in lines[2] and "items/s" in lines[2]


def test_a_phase_that_fails_says_how_far_it_came():
    out = io.StringIO()
    with pytest.raises(MemoryError), Progress(Console(file=out, width=100)).phase("train", unit="steps") as phase:
        phase.step(3, 10, loss=1.0, tokens_per_s=1)
        raise MemoryError
    assert "stopped at 3 of 10 steps" in out.getvalue()


def test_progress_on_a_terminal_draws_a_bar_and_leaves_a_line():
    out = io.StringIO()
    with Progress(Console(file=out, width=100, force_terminal=True)).phase("train", unit="steps") as phase:
        phase.step(1, 2, loss=0.75, tokens_per_s=412.7)
    assert "\x1b[" in out.getvalue() and "1/2 steps" in out.getvalue()


def test_notes_keep_brackets(capsys: pytest.CaptureFixture[str]):
    print_notes(["adapter.target_modules=[q_proj]"], console=make_console())
    assert capsys.readouterr().out == "note adapter.target_modules=[q_proj]\n"
