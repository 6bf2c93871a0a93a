"""The report as a whole: of the published table, and of simulated sweeps that the real comparison read."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from comparison.published import IMPOSSIBLE, write_published
from comparison.simulated import LORA, MLP, write_run
from report.comparison_samples import comparison, configuration, group, metric, ranks, row, task
from rich.console import Console

from adapter_exp.comparison.compare import compare_runs
from adapter_exp.comparison.model import Comparison, FailedGate, Reason, Refused
from adapter_exp.comparison.runs import read_runs
from adapter_exp.report.comparison import build_document
from adapter_exp.report.document import Document, Table
from adapter_exp.report.render_html import html
from adapter_exp.report.render_markdown import markdown
from adapter_exp.report.render_text import print_document

NUMBER = re.compile(r"[-+]?\d+(?:[.\u00a0]\d+)*%?")


def text_of(document: Document, width: int = 600) -> str:
    out = io.StringIO()
    print_document(document, Console(file=out, width=width, highlight=False, color_system=None))
    return out.getvalue()


def text(made: Comparison, language: str = "en") -> str:
    return text_of(build_document(made, language)).replace("\u00a0", " ")


def tables(document: Document) -> dict[str, list[list[str]]]:
    """Rows of each table by the titles of its section and its own."""
    return {
        f"{section.title}: {block.caption}": [[cell.text for cell in row] for row in block.rows]
        for section in document.walk()
        for block in section.blocks
        if isinstance(block, Table)
    }


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Comparison:
    folder = tmp_path_factory.mktemp("published")
    return compare_runs(*read_runs(write_published(folder)), resamples=500)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Comparison:
    """Two ranks and a bottleneck adapter, two seeds each; the bottleneck forgets."""
    folder = tmp_path_factory.mktemp("sweep")
    kinds = (({**LORA, "r": 4}, 0.4, 0.7), ({**LORA, "r": 16}, 0.6, 0.7), (MLP, 0.5, 0.35))
    for number, (adapter, special, general) in enumerate(kinds):
        for seed in (0, 1):
            skill = {"nerus": special, "terra": general}
            write_run(folder / str(2 * number + seed), adapter=adapter, seed=seed, skill=skill, count=40)
    return compare_runs(*read_runs([folder]), resamples=200)


def test_the_sections_stand_in_order(sweep):
    titles = [section.title for section in build_document(sweep, "en").sections]
    assert titles == [
        "1. What was compared", "2. Adapters", "3. Results by task", "4. Ranking in groups", "5. Gain and forgetting",
        "6. Cost", "7. Gates", "8. Conclusions",
    ]  # fmt: skip


def test_golden_numbers_of_the_published_table(published):
    told = text(published)
    found = tables(build_document(published, "en"))
    terra = found["terra (general task): Primary metric: accuracy_generated"]
    assert [row[:3] for row in terra] == [
        ["base", "0.4400", ""],
        ["lora", "0.4400", "0.0000 (0.00%) ?"],
        ["mlp", "0.3900", "-0.0500 (-11.36%) ?"],
    ]
    nerus = found["nerus (special task): Primary metric: macro_f1"]
    assert [row[:4] for row in nerus] == [
        ["base", "0.3615", "", ""],
        ["lora", "0.3615", "0.0000 (0.00%) ?", "–"],
        ["mlp", "0.4726", "+0.1111 (+30.73%)", "–"],
    ]
    assert "+0.0892 (+29.90%)" in told, "precision of the bottleneck adapter against the base"
    for value in ("0.3056", "0.2806", "0.2983", "0.3875", "0.5240", "0.7062"):
        assert value in told
    balance = {row[0]: row[3] for row in found["5. Gain and forgetting: Gain on nerus, forgetting on terra"]}
    assert balance["lora"] == "0.00%" and 22.5 <= float(balance["mlp"].strip("+%")) <= 22.6
    adapters = {row[0]: row[1] for row in found["2. Adapters: "]}
    assert adapters == {"lora": "1\u00a0703\u00a0936", "mlp": "4\u00a0211\u00a0200"}


def test_golden_words_of_the_published_table(published):
    told = text(published)
    assert "lora against the base: a tie. Of 7 numbers, all are equal to the base's." in told
    assert "fit an evaluation set with one true label (accuracy: base 0.4400; adapted 0.3900)" in told
    assert "figures equal to the base's: 7 of 7" in told
    assert "Figures without predictions: no interval and no test can be had." in told
    assert "Best on the general task terra: no claim" in told and "Best on the special task nerus: mlp" not in told
    russian = text(published, "ru")
    assert "lora против базы — ничья. Сравнено: 7 чисел, все равны числам базы." in russian
    assert "чисел, равных числам базы: 7 из 7" in russian


def test_adapters_against_each_other_have_the_higher_first(published):
    rows = tables(build_document(published, "en"))["nerus (special task): Adapters against each other"]
    assert [row[0].strip("\u00a0") for row in rows[:2]] == ["macro_f1", "mlp against lora"]
    assert [row[1] for row in rows if "against" in row[0]] == [
        "+0.1111 (+30.73%) ?", "+0.0892 (+29.90%) ?", "+0.1822 (+34.77%) ?",
    ]  # fmt: skip


def test_the_other_published_table_is_refused(tmp_path):
    made = compare_runs(*read_runs(write_published(tmp_path, base=IMPOSSIBLE)), resamples=200)
    told = text(made, "ru")
    assert "невозможная F1" in told and "допускают не больше 0.3216" in told
    assert "macro_f1 (база) = 0.3615, но точность 0.2483 и полнота 0.4564" in told


def numbers(shown: str) -> Counter[str]:
    return Counter(NUMBER.findall(shown))


@pytest.mark.parametrize("name", ["sweep", "published"])
def test_numbers_are_the_same_in_all_formats_and_languages(name, request):
    made = request.getfixturevalue(name)
    found = {}
    for language in ("en", "ru"):
        document = build_document(made, language)
        found[f"{language} text"] = numbers(text_of(document))
        found[f"{language} md"] = numbers(re.sub(r"\\(.)", r"\1", unescape(markdown(document))))
        page = html(document, {})
        body = re.sub(r"<[^>]*>", " ", page[page.index("<body>") :].replace("</nav>", "<nav>"))
        contents = numbers(" ".join(section.title for section in document.sections))
        found[f"{language} html"] = numbers(unescape(body)) - contents  # the titles stand in the contents again
    first = found["en text"]
    assert sum(first.values()) > 200
    for name, counted in found.items():
        assert counted == first, f"{name}: {(counted - first) | (first - counted)}"


def test_every_number_of_a_row_is_that_of_the_comparison(sweep):
    found = tables(build_document(sweep, "en"))["nerus (special task): Primary metric: micro_f1"]
    primary = sweep.groups[0].tasks[0].metrics[0]
    shown = {row[0]: row for row in found}
    for one in primary.rows:
        value = shown[one.configuration]
        assert value[1] == f"{one.adapted.value:.4f}"
        assert value[2].startswith(f"{one.change.value:+.4f} ({one.relative.value:+.2%})")
        assert value[2].endswith("▲") == (one.verdict == "higher") == (value[4] == "higher")
    assert float(shown["base"][1]) == pytest.approx(primary.base["nf4"].value, abs=5e-5)


def test_a_sweep_of_many_configurations_stays_readable():
    _, made = ranks(24)
    document = build_document(made, "en")
    found = tables(document)
    assert len(found["nerus (special task): Primary metric: micro_f1"]) == 2 + 24
    pairs = found["nerus (special task): Adapters against each other"]
    assert len(pairs) == 1 + 23, "the leader against all others, not 276 pairs"
    assert len(text_of(document, 160).splitlines()) < 450
    assert "pairs.csv, which --output FOLDER writes" in text_of(document)


def test_other_metrics_of_many_configurations_are_one_line_each():
    group_, _ = ranks(8)
    special = group_.tasks[0]
    others = [replace(special.metrics[0], name=f"other_{n}") for n in range(3)]
    changed = replace(special, metrics=(*special.metrics, *others))
    document = build_document(comparison(replace(group_, tasks=(changed, group_.tasks[1]))), "en")
    table = tables(document)["nerus (special task): Other metrics"]
    assert len(table) == 1 + 8 and table[1] == ["lora r=2", *["0.3000 ▲"] * 3]
    assert text_of(document).count("0.3000 ▲ +0.1000 (+50.00%)") == 3, "the change, absolute and relative"


def test_a_base_of_0_has_a_dash_for_the_relative_change():
    rows = [row("lora", 0.3, base=0.0)]
    made = comparison(group([configuration("lora")], [task(metric(rows, [["lora"]], base=0.0))]))
    told = text(made)
    assert "+0.3000 (–) ▲" in told and "inf" not in told and "nan" not in told


def test_a_metric_that_only_some_have_is_told():
    made = group([configuration("lora"), configuration("mlp")], [task(metric([row("lora", 0.3)], [["lora"]]))])
    assert "Missing or not finite, so without a row: every metric, for mlp (1 in all)." in text(comparison(made))


def test_metrics_that_the_same_configurations_lack_are_told_in_one_line():
    found = metric([row("lora", 0.3)], [["lora"]])
    metrics = [metric([row("lora", 0.3), row("mlp", 0.3)], [["lora", "mlp"]])]
    metrics += [replace(found, name=f"other_{n}") for n in range(9)]
    special = replace(task(metrics[0]), metrics=tuple(metrics))
    told = text(comparison(group([configuration("lora"), configuration("mlp")], [special])))
    assert told.count("without a row") == 1 and "other_0, other_1, other_2" in told


def test_data_are_told_split_by_split_with_every_fingerprint():
    splits = {
        "test": {"items": 40, "fingerprint": "c" * 16},
        "train": {"items": 64, "fingerprint": "a" * 16},
    }
    variants = {"nerus": {"train": [splits["train"], {"items": 32, "fingerprint": "b" * 16}]}}
    facts = {"model": "tiny", "data": {"nerus": splits}, "data_variants": variants}
    made = group([configuration("lora")], [task(metric([row("lora", 0.3)], [["lora"]]))], facts=facts)
    rows = tables(build_document(comparison(made), "en"))["1. What was compared: Data"]
    assert [(one[0], one[1], one[2], one[6]) for one in rows] == [
        ("nerus", "train", "64", "a" * 12), ("", "", "32", "b" * 12), ("", "test", "40", "c" * 12),
    ]  # fmt: skip


def test_places_are_shared():
    names = ["lora", "mlp", "dora", "full"]
    rows = [row(name, value) for name, value in zip(names, (0.5, 0.49, 0.48, 0.3), strict=True)]
    made = group([configuration(name) for name in names], [task(metric(rows, [names[:3], names[3:]]))])
    found = tables(build_document(comparison(made), "en"))["nerus, micro_f1: Places"]
    assert [(one[0], one[1]) for one in found] == [("1–3", "lora"), ("", "mlp"), ("", "dora"), ("4", "full")]
    assert "would have found with a probability of 80%: 0.0312" in text(comparison(made))


def test_the_spread_between_seeds_stands_apart(sweep):
    found = tables(build_document(sweep, "en"))
    name = "nerus, micro_f1: Spread between seeds, apart from the effect of the adapter"
    one = sweep.groups[0].tasks[0].metrics[0].rows[0]
    assert found[name][0][:4] == [
        one.configuration, "0, 1", ", ".join(f"{value:.4f}" for value in one.by_seed), f"{one.seed_sd:.4f}",
    ]  # fmt: skip


def gate(name: str, configuration: str, seed: int, model: str | None, **values) -> FailedGate:
    return FailedGate(configuration, seed, "nerus", model, name, Reason(name, values), frozenset({"higher", "tie"}))


def test_equal_findings_of_gates_are_one_row():
    configurations = [configuration("lora"), configuration("mlp")]
    base = [
        gate("parse_failures", one.name, seed, "base", unparsed=40, items=40, limit=0.2)
        for one in configurations
        for seed in one.seeds
    ]
    own = [gate("majority", "mlp", seed, "adapted", metric="f1", score=0.1 * seed, trivial=0.5) for seed in (0, 1, 2)]
    everywhere = [
        gate("one_label", one.name, seed, None, items=9, distinct=1) for one in configurations for seed in (0, 1)
    ]
    rows = [row("lora", 0.3), row("mlp", 0.4)]
    made = group(configurations, [task(metric(rows, [["mlp", "lora"]]))], gates=(*base, *own, *everywhere))
    found = tables(build_document(comparison(made), "en"))["7. Gates: "]
    assert [one[2] for one in found] == ["base", "mlp", "all"]
    assert found[1][3] == "f1 is 0.0000, the best trivial answer reaches 0.5000 (other seeds likewise: 2)"


def test_gates_are_told_by_configuration_even_where_two_happen_to_have_one_number():
    configurations = [configuration("lora"), configuration("mlp", seeds=(0,))]
    scores = [("lora", 0, 0.4), ("lora", 2, 0.3), ("mlp", 0, 0.3)]
    own = [
        gate("majority", name, seed, "adapted", metric="f1", score=value, trivial=0.5) for name, seed, value in scores
    ]
    made = group(configurations, [task(metric([row("lora", 0.3), row("mlp", 0.4)], [["mlp"]]))], gates=tuple(own))
    found = tables(build_document(comparison(made), "en"))["7. Gates: "]
    assert [(one[2], one[3]) for one in found] == [
        ("lora (seed: 0, 2)", "f1 is 0.4000, the best trivial answer reaches 0.5000 (other seeds likewise: 1)"),
        ("mlp", "f1 is 0.3000, the best trivial answer reaches 0.5000"),
    ]


def test_the_front_marks_what_gates_withhold_and_names_its_cost():
    made, _ = ranks(2)
    gated = replace(made, gates=(replace(gate("majority", "lora r=4", 0, "adapted"), task="terra"),))
    name = "6. Cost: Pareto front over gain, forgetting and trainable parameters"
    document = build_document(comparison(gated), "en")
    assert {one[0]: one[4] for one in tables(document)[name]} == {"lora r=2": "70.00%", "lora r=4": "70.00% ?"}
    assert "Cost is trainable parameters alone" in text(comparison(gated))


def test_refused_runs_are_told_with_their_reasons():
    made = ranks(2)[1]
    refused = Refused(Path("multirun/s/7"), Reason("predictions_missing", {"file": "predictions/nerus.base.jsonl"}))
    for language, words in (("en", "is missing"), ("ru", "парное сравнение невозможно")):
        told = text(replace(made, refused=(refused,)), language)
        assert "multirun/s/7" in told and words in told and "predictions/nerus.base.jsonl" in told
    assert "No run was refused." in text(made)


def test_runs_that_cannot_be_compared_are_groups_with_reasons():
    group_, _ = ranks(2)
    values = {"task": "nerus", "items": 60, "other": 50, "common": 40}
    other = replace(group_, facts={"model": "another"})
    refused = Refused(Path("x"), Reason("no_runs"))
    made = comparison(group_, other, split=(Reason("other_items", values),), refused=(refused,))
    document = build_document(made, "en")
    assert [one.title for one in document.sections] == ["Group 1: tiny", "Group 2: another", "Refused runs"]
    assert [len(one.sections) for one in document.sections] == [8, 8, 0]
    assert "group 2: nerus: other items (50, not 60; in common: 40)" in text(made)
    names = [one.name for one in document.figures()]
    assert len(set(names)) == len(names), "two groups do not overwrite each other's plots"


def test_nothing_to_compare_says_so():
    refused = Refused(Path("x"), Reason("no_runs"))
    assert "No run could be compared." in text(comparison(refused=(refused,)))
    base_only = group([], [], warnings=(Reason("base_only"),))
    assert "Only base models were scored" in text(comparison(base_only))


def test_quantisation_is_a_factor(tmp_path):
    for number, kind in enumerate(("nf4", "none")):
        write_run(tmp_path / str(number), quantization=kind, skill={"nerus": 0.5, "terra": 0.7}, count=40)
    told = text(compare_runs(*read_runs([tmp_path]), resamples=200))
    assert "base (nf4)" in told and "base (none)" in told and "quantization.kind" in told


def test_budgets_that_differ_are_a_table(tmp_path):
    for number in range(2):
        write_run(tmp_path / str(number), adapter={**LORA, "r": 4 * (number + 1)}, count=40)
    file = tmp_path / "1" / "record.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    record["training"]["steps"] = 40
    file.write_text(json.dumps(record), encoding="utf-8")
    made = compare_runs(*read_runs([tmp_path]), resamples=200)
    found = tables(build_document(made, "en"))["1. What was compared: Training budget"]
    assert [one[3] for one in found] == ["20", "40"]
    assert "training budgets differ in steps: lora r=4 20; lora r=8 40" in text(made)
