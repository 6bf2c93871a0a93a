"""The command: formats, places, languages, and bad input in one line each."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from comparison.simulated import LORA, MLP, write_run

from adapter_exp.compare import main, write_report
from adapter_exp.comparison.compare import compare_runs
from adapter_exp.comparison.runs import read_runs

FAST = ["--resamples", "200"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A sweep's folder: two kinds, two seeds each."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    for number, adapter in enumerate((LORA, MLP)):
        for seed in (0, 1):
            skill = {"nerus": 0.4 + 0.2 * number, "terra": 0.7}
            write_run(folder / str(2 * number + seed), adapter=adapter, seed=seed, skill=skill, count=40)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """One run on one task: the fewest plots."""
    return write_run(tmp_path_factory.mktemp("alone") / "run", tasks=("nerus",), count=40)


@pytest.fixture
def sweep(runs: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(runs, tmp_path / "sweep"))


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main([*map(str, arguments), *FAST])
    out, err = capsys.readouterr()
    return code, out.replace("\u00a0", " "), err


def test_text_to_the_terminal_is_the_default(runs, capsys):
    code, out, err = run(capsys, runs)
    assert (code, err) == (0, "")
    assert out.startswith("Comparison of adapters\ncompared  4 runs, 2 configurations\n")
    assert "8. Conclusions" in out and "\x1b" not in out and max(map(len, out.splitlines())) <= 160


def test_russian_and_the_other_formats_to_the_standard_output(runs, alone, capsys):
    assert run(capsys, alone, "--lang", "ru", "--format", "md")[1].startswith("# Сравнение адаптеров")
    page = run(capsys, alone, "--lang", "ru", "--format", "html")[1]
    assert page.lstrip().startswith("<!DOCTYPE html>") and "data:image/png;base64," in page
    rows = list(csv.DictReader(io.StringIO(run(capsys, runs, "--format", "csv")[1])))
    assert [row["kind"] for row in rows] == ["lora", "lora", "mlp", "mlp"]
    record = json.loads((runs / "0" / "record.json").read_text(encoding="utf-8"))
    assert float(rows[0]["nerus.micro_f1.adapted"]) == record["evaluation"]["adapted"]["nerus"]["micro_f1"]["value"]
    assert float(rows[0]["peak_rss_bytes"]) == record["resources"]["peak_rss_bytes"]


def test_a_folder_gets_the_whole_report(alone, tmp_path, capsys):
    place = tmp_path / "new" / "report"
    code, out, _ = run(capsys, alone, "--output", place, "--lang", "ru")
    assert code == 0
    files = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    plots = ["plots/change_nerus.png", "plots/loss.png"]
    assert files == ["pairs.csv", *plots, "report.html", "report.md", "runs.csv"]
    assert sorted(out.split()) == sorted(str(place / name) for name in files)
    text = (place / "report.md").read_text(encoding="utf-8")
    assert all(f"]({name})" in text for name in plots)
    assert all((place / name).read_bytes().startswith(b"\x89PNG") for name in plots)
    assert "http" not in (place / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "begins", "plots"), [("a.md", "# Comparison", 2), ("a.csv", "group,folder", 0), ("a.txt", "Comparison", 0)]
)
def test_a_file_gets_the_format_of_its_ending(alone, tmp_path, capsys, name, begins, plots):
    assert run(capsys, alone, "--output", tmp_path / name)[0] == 0
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)
    assert len(list(tmp_path.glob("plots/*.png"))) == plots


def test_a_format_into_a_folder_has_its_usual_name(alone, tmp_path, capsys):
    assert run(capsys, alone, "--output", tmp_path, "--format", "csv")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]


def test_equal_runs_give_an_equal_report(alone, tmp_path):
    made = compare_runs(*read_runs([alone]), resamples=200)
    first, second = (write_report(made, tmp_path / name, "en") for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second] and len(first) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lang", "de"], "--lang: 'de' is unknown; use one of: en, ru."),
        (["--format", "pdf"], "--format: 'pdf' is unknown; use one of: text, md, html, csv."),
        (["--output", "report.pdf"], "--output: 'report.pdf' names no format"),
        (["--seed", "-1"], "--seed: -1 is below 0."),
    ],
)
def test_wrong_options_are_one_line_each(runs, capsys, arguments, words):
    code, out, err = run(capsys, runs, *arguments)
    assert (code, out) == (2, "") and err.startswith(f"error: {words}") and err.count("\n") == 1


def test_all_wrong_options_are_told_at_once(runs, capsys):
    assert main([str(runs), "--lang", "de", "--format", "pdf", "--resamples", "5"]) == 2
    assert capsys.readouterr().err.count("error: ") == 3


def test_a_folder_that_is_missing_or_empty(tmp_path, capsys):
    for place, words in ((tmp_path / "no\x1b[31mwhere", "is not a folder"), (tmp_path, "holds no run")):
        code, out, err = run(capsys, place)
        assert (code, out) == (2, "") and words in err and err.count("\n") == 1 and "\x1b" not in err


def edit(folder: Path, change) -> None:
    file = folder / "record.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    change(record)
    file.write_text(json.dumps(record), encoding="utf-8")


def other_hashes(file: Path) -> None:
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    lines[0]["item_hash"] = "0" * 16
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


DAMAGES = {
    "older schema": (lambda run: edit(run, lambda record: record.update(schema_version=0)), "is of schema 0"),
    "cut short": (lambda run: os.truncate(run / "record.json", 500), "is cut short or damaged"),
    "no record": (lambda run: (run / "record.json").unlink(), "has no record.json"),
    "failed": (lambda run: edit(run, lambda record: record.update(status="failed")), "did not end well: failed"),
    "no predictions": (lambda run: (run / "predictions" / "nerus.base.jsonl").unlink(), "nerus.base.jsonl is missing"),
    "other hashes": (lambda run: other_hashes(run / "predictions" / "nerus.adapted.jsonl"), "not scored on the same"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_bad_run_is_told_and_the_others_are_compared(sweep, capsys, name):
    damage, words = DAMAGES[name]
    damage(sweep / "3")
    code, out, err = run(capsys, sweep)
    assert (code, err) == (0, "")
    assert "compared  3 runs, 2 configurations, refused: 1" in out and "Refused runs: 1" in out
    told = " ".join(out[out.index("Refused runs: 1") :].split())
    assert words in told and "/3" in told.replace(" ", "")


def test_only_bad_runs_are_one_line_each(sweep, capsys):
    for number in range(4):
        os.truncate(sweep / str(number) / "record.json", 100)
    code, out, err = run(capsys, sweep)
    assert (code, out) == (2, "")
    assert [line.split(":")[1].strip() for line in err.splitlines()] == [str(sweep / str(n)) for n in range(4)]


def test_a_metric_that_only_some_have_or_that_is_no_number(sweep, capsys):
    def without(record):
        for model in ("base", "adapted", "change"):
            del record["evaluation"][model]["terra"]["macro_f1_loglik"]
        record["evaluation"]["adapted"]["nerus"]["org_f1"] = {"value": None, "low": None, "high": None}

    edit(sweep / "2", without)
    code, out, _ = run(capsys, sweep)
    assert code == 0 and "nan" not in out
    assert "Missing or not finite, so without a row: macro_f1_loglik, for mlp (1 in all)." in out
    assert "Missing or not finite, so without a row: org_f1, for mlp (1 in all)." in out
    assert "mlp has no finite org_f1" in out and "mlp lacks macro_f1_loglik" in out


def test_two_runs_of_the_same_configuration_and_seed(sweep, capsys):
    shutil.copytree(sweep / "0", sweep / "4")
    code, out, _ = run(capsys, sweep)
    assert code == 0 and "4 runs, 2 configurations, refused: 1" in out
    assert "same configuration, seed (0) and scores as" in " ".join(out.split())


def test_a_run_of_the_base_alone_is_counted_and_has_a_row_of_its_own(sweep, capsys):
    write_run(sweep / "4", adapter={"kind": "none"}, count=40)
    _, out, _ = run(capsys, sweep)
    assert "compared  5 runs (base only: 1), 2 configurations" in out
    assert "runs of the base only" in out and "refused: " not in out
    rows = list(csv.DictReader(io.StringIO(run(capsys, sweep, "--format", "csv")[1])))
    base = rows[-1]
    assert len(rows) == 5 and base["folder"] == str(sweep / "4")
    assert (base["configuration"], base["kind"], base["status"], base["config.adapter.kind"]) == ("", "none", "ok", "")
    assert float(base["nerus.micro_f1.base"]) == float(rows[0]["nerus.micro_f1.base"])
    assert base["nerus.micro_f1.adapted"] == base["configuration.nerus.micro_f1.verdict"] == ""


def test_a_loss_that_is_no_number_is_told_as_such(sweep, capsys):
    values = {"number": 3, "loss": "nan"}
    gate = {"name": "loss_exploding", "passed": False, "reason": "logged loss 3 is nan", "task": None}
    edit(sweep / "0", lambda record: record["gates"].append({**gate, "model": "adapted", "values": values}))
    assert "logged loss 3 is no number: nan" in " ".join(run(capsys, sweep)[1].split())
    russian = " ".join(run(capsys, sweep, "--lang", "ru")[1].split())
    assert "функция потерь растёт" in russian and "под номером 3 — не число: nan" in russian


def test_a_sweep_of_one(alone, capsys):
    code, out, _ = run(capsys, alone)
    assert code == 0 and "A sweep of one (1 configuration, 1 run)" in out and "there is nothing to rank" in out


def test_a_place_that_cannot_be_written_is_one_line(alone, tmp_path, capsys):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    code, _, err = run(capsys, alone, "--output", tmp_path / "file" / "report")
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1


def test_the_command_starts_quickly_and_help_needs_no_library():
    script = (
        "import sys, adapter_exp.compare\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'scipy', 'pydantic', 'rich', 'jinja2'} & set(sys.modules)\n"
        "print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    shown = subprocess.run(
        [sys.executable, "-m", "adapter_exp.compare", "--help"], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0 and "--lang" in shown.stdout and "--format" in shown.stdout


@pytest.mark.slow
def test_a_reader_that_stops_reading_and_a_terminal_without_signs(alone):
    command = [sys.executable, "-m", "adapter_exp.compare", str(alone), *FAST]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ascii_only) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith(b"Comparison")
        process.stdout.close()
        assert process.stderr.read() == b""
