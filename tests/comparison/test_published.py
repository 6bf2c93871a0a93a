"""The published tables: what their figures say, and what arithmetic says of them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from comparison.published import IMPOSSIBLE, LORA, write_published

from adapter_exp.comparison.compare import compare_runs
from adapter_exp.comparison.imported import ImportedTask, write_imported
from adapter_exp.comparison.runs import read_runs
from adapter_exp.errors import UserError


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    comparison = compare_runs(*read_runs(write_published(tmp_path_factory.mktemp("published"))), resamples=2000)
    assert comparison.refused == () and len(comparison.groups) == 1
    return comparison.groups[0]


def metric(group, task, name):
    return next(m for t in group.tasks if t.name == task for m in t.metrics if m.name == name)


def row(group, task, name, configuration):
    return next(r for r in metric(group, task, name).rows if r.configuration == configuration)


def test_terra_items_give_the_published_scores(group):
    found = {
        name: (
            row(group, "terra", name, "lora").base.value,
            *(r.adapted.value for r in metric(group, "terra", name).rows),
        )
        for name in ("accuracy_generated", "macro_precision_generated", "macro_recall_generated", "macro_f1_generated")
    }
    assert {name: [f"{value:.4f}" for value in values] for name, values in found.items()} == {
        "accuracy_generated": ["0.4400", "0.4400", "0.3900"],
        "macro_precision_generated": ["0.5000", "0.5000", "0.5000"],
        "macro_recall_generated": ["0.2200", "0.2200", "0.1950"],
        "macro_f1_generated": ["0.3056", "0.3056", "0.2806"],
    }
    terra = next(task for task in group.tasks if task.name == "terra")
    assert (terra.items, terra.documents, terra.primary) == (100, 100, "accuracy_generated")
    assert len(terra.metrics) == 4, "metrics that the source does not have are not made up"


def test_changes_are_those_of_the_report(group):
    accuracy = row(group, "terra", "accuracy_generated", "mlp")
    assert f"{accuracy.change.value:+.4f} ({accuracy.relative.value:+.2%})" == "-0.0500 (-11.36%)"
    assert row(group, "nerus", "macro_precision", "mlp").relative.value == pytest.approx(0.2990, abs=0.00011)
    assert f"{row(group, 'nerus', 'macro_f1', 'mlp').relative.value:.1%}" == "30.7%"
    balance = {one.configuration: one for one in group.balance}
    assert 0.225 <= balance["mlp"].published.value <= 0.226
    assert balance["lora"].published.value == 0 and balance["lora"].absolute.value == 0
    assert balance["mlp"].absolute.value == pytest.approx(0.1111 - 0.0250, abs=1e-4)
    assert balance["mlp"].on_front is None


def test_figures_without_items_have_neither_interval_nor_test(group):
    nerus = next(task for task in group.tasks if task.name == "nerus")
    assert (nerus.items, nerus.documents) == (None, None)
    for one in nerus.metrics:
        assert one.places == () and one.unranked == ("lora", "mlp") and one.smallest_difference is None
        for found in (*one.rows, *one.pairs):
            change = getattr(found, "change", None) or found.difference
            assert (change.low, change.high, found.p, found.p_holm, found.test) == (None,) * 5
            assert found.finding == "not_measured"


def test_lora_against_the_base_is_a_tie(group):
    found = row(group, "terra", "accuracy_generated", "lora")
    assert (found.change.value, found.change.low, found.change.high, found.p) == (0, 0, 0, 1)
    assert found.finding == "tie" and found.test == "mcnemar"
    assert found.verdict == "withheld", "an adapter that changes no number may never have been switched on"


def test_gates_say_what_is_odd(group):
    gates = {(gate.configuration, gate.name, gate.task): gate for gate in group.gates}
    assert gates["lora", "equals_base", None].reason.values["equal"] == 7
    assert gates["lora", "equals_base", None].reason.values["figures"] == 7
    assert ("mlp", "equals_base", None) not in gates
    for name in ("lora", "mlp"):
        assert gates[name, "fits_one_label", "terra"].withholds == {"higher", "lower", "tie"}
        assert gates[name, "one_label", "terra"].reason.values["distinct"] == 1
        assert (name, "fits_one_label", "nerus") not in gates
        assert (name, "impossible_f1", "nerus") not in gates
    assert row(group, "terra", "accuracy_generated", "mlp").verdict == "withheld"
    assert group.facts["imported"] == "the published report" and group.facts["budgets"][0]["tokens"] is None


def test_the_other_table_is_refused(tmp_path):
    group = compare_runs(*read_runs(write_published(tmp_path, base=IMPOSSIBLE)), resamples=200).groups[0]
    gate = next(gate for gate in group.gates if gate.name == "impossible_f1")
    assert gate.task == "nerus" and gate.withholds == {"higher", "lower", "tie"}
    assert f"{gate.reason.values['limit']:.4f}" == "0.3216"
    assert "allow at most 0.3216" in gate.reason.values["text"]
    assert {found.verdict for found in metric(group, "nerus", "macro_f1").rows} == {"withheld"}


def test_rounded_figures_are_not_called_impossible(tmp_path):
    exact = 2 * 0.25 * 0.45 / 0.70
    nerus = ImportedTask(
        "special", "macro_f1", {"macro_precision": 0.25, "macro_recall": 0.45, "macro_f1": exact + 5e-5}
    )
    write_imported(tmp_path / "a", source="s", model="m", adapter=LORA, tasks={"nerus": nerus})
    assert "impossible_f1" not in {gate.name for gate in compare_runs(*read_runs([tmp_path / "a"])).groups[0].gates}


def test_the_writer_refuses_what_says_nothing(tmp_path):
    given = {"source": "s", "model": "m"}
    task = ImportedTask("special", "macro_f1", {"macro_f1": 0.5})
    with pytest.raises(UserError, match=r"adapter\.kind: is missing"):
        write_imported(tmp_path / "a", adapter={}, tasks={"nerus": task}, **given)
    with pytest.raises(UserError, match=r"tasks\.nerus: has no figures"):
        write_imported(tmp_path / "a", adapter=LORA, tasks={"nerus": ImportedTask("special", "f", {})}, **given)
    write_imported(tmp_path / "a", adapter=LORA, tasks={"nerus": task}, **given)
    with pytest.raises(UserError, match="holds a record already"):
        write_imported(tmp_path / "a", adapter=LORA, tasks={"nerus": task}, **given)


def test_imported_figures_are_not_compared_with_runs(tmp_path):
    from comparison.simulated import write_run

    paths = [write_run(tmp_path / "run", count=20), *write_published(tmp_path)]
    comparison = compare_runs(*read_runs(paths), resamples=200)
    assert [group.tried for group in comparison.groups] == [1, 2]
    assert comparison.split[0].code == "other_source"


def test_the_example_in_the_documentation_works(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text(encoding="utf-8")
    block = text[text.index("    from pathlib import Path") : text.index("Where the items are known")]
    monkeypatch.chdir(tmp_path)
    exec(textwrap.dedent(block), {})
    group = compare_runs(*read_runs([tmp_path / "outputs" / "report-mlp"])).groups[0]
    assert group.facts["imported"] == "the report's table 2" and group.costs[0].trainable_parameters == 4_211_200
