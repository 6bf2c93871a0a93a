"""Comparisons of whole run folders: groups, names, seeds, places, balance."""

from __future__ import annotations

import dataclasses
import itertools
import random
import shutil

import numpy as np
import pytest
from comparison.simulated import LORA, MLP, change_record, task, write_run

from adapter_exp.comparison.balance import f1_metric
from adapter_exp.comparison.compare import compare_runs
from adapter_exp.comparison.gates import pair_verdict, verdict
from adapter_exp.comparison.groups import comparable_groups
from adapter_exp.comparison.places import places
from adapter_exp.comparison.runs import read_runs
from adapter_exp.evaluation.predictions import read_predictions, write_predictions
from adapter_exp.evaluation.statistics import paired_change

GOOD, BETTER = {"nerus": 0.5, "terra": 0.7}, {"nerus": 0.9, "terra": 0.55}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two sizes of LoRA with three seeds each, alike, an MLP that learns and forgets more, and full fine-tuning."""
    root = tmp_path_factory.mktemp("compare") / "sweep"
    number = 0
    for r in (4, 16):
        for seed in range(3):
            write_run(
                root / str(number), adapter=LORA | {"r": r, "alpha": 2.0 * r}, seed=seed, skill=GOOD, parameters=100 * r
            )
            number += 1
    for seed in range(3):
        write_run(root / str(number), adapter=MLP, seed=seed, skill=BETTER, parameters=9000)
        number += 1
    write_run(root / str(number), adapter={"kind": "full"}, quantization="none", skill=BETTER, parameters=10**6)
    return root


@pytest.fixture(scope="module")
def comparison(folder):
    return compare_runs(*read_runs([folder]), resamples=2000)


@pytest.fixture(scope="module")
def group(comparison):
    assert len(comparison.groups) == 1 and comparison.split == ()
    return comparison.groups[0]


def metric(group, name, of="nerus"):
    return next(m for t in group.tasks if t.name == of for m in t.metrics if m.name == name)


def test_seeds_are_one_configuration_named_by_what_varies(group):
    assert [one.name for one in group.configurations] == ["lora r=4", "lora r=16", "mlp", "full"]
    assert [one.seeds for one in group.configurations] == [(0, 1, 2)] * 3 + [(0,)]
    assert group.varying == ("adapter.kind", "adapter.r", "adapter.alpha", "quantization.kind")
    first = group.configuration("lora r=16")
    assert first.axes == {"adapter.kind": "lora", "adapter.r": 16, "adapter.alpha": 32.0, "quantization.kind": "nf4"}
    assert group.tried == 10


def test_a_change_is_that_of_the_averaged_items(folder, group):
    rows = [[r.statistics for r in read_predictions(folder / n / "predictions" / "nerus.adapted.jsonl")] for n in "012"]
    base = read_predictions(folder / "0" / "predictions" / "nerus.base.jsonl")
    averaged = [{key: np.mean([one[key] for one in items]) for key in items[0]} for items in zip(*rows, strict=True)]
    hashes = [row.item_hash for row in base]
    wanted = paired_change(
        task("nerus").aggregate, [r.statistics for r in base], averaged, base_hashes=hashes, adapted_hashes=hashes,
        groups=[r.group for r in base], resamples=2000, seed=0,
    )  # fmt: skip
    for name in ("micro_f1", "macro_f1", "exact_match"):
        row = metric(group, name).rows[0]
        assert row.change.value == pytest.approx(wanted[name].value)
        assert [row.change.low, row.change.high] == pytest.approx([wanted[name].low, wanted[name].high], abs=0.02)
        assert row.relative.value == pytest.approx(wanted[name].value / row.base.value)


def test_each_seed_is_shown_apart(folder, group):
    row = metric(group, "micro_f1").rows[0]
    runs, _ = read_runs([folder])
    recorded = [run.record["evaluation"]["adapted"]["nerus"]["micro_f1"]["value"] for run in runs[:3]]
    assert row.by_seed == pytest.approx(recorded)
    assert row.seed_sd == pytest.approx(np.std(recorded, ddof=1))
    assert metric(group, "micro_f1").rows[3].seed_sd is None


def test_alike_configurations_share_a_place(group):
    found = metric(group, "micro_f1")
    assert set(found.places[0]) == {"mlp", "full"}
    assert set(found.places[1]) == {"lora r=4", "lora r=16"}
    pair = next(one for one in found.pairs if (one.first, one.second) == ("lora r=4", "lora r=16"))
    assert pair.verdict == "tie" and pair.p_holm > 0.05 and pair.items_needed > 120
    other = next(one for one in found.pairs if (one.first, one.second) == ("lora r=4", "mlp"))
    assert other.verdict == "lower" and other.difference.high < 0
    rows = {row.configuration: row for row in found.rows}
    assert other.difference.value == pytest.approx(rows["lora r=4"].adapted.value - rows["mlp"].adapted.value)
    assert len(found.pairs) == 6 and found.smallest_difference > 0 and found.smallest_pair_difference > 0


def test_every_number_of_a_verdict_agrees(group):
    for one in group.tasks:
        for found in (row for m in one.metrics for row in m.rows):
            if found.finding in ("higher", "lower"):
                assert found.p_holm <= 0.05
                assert found.change.low > 0 if found.finding == "higher" else found.change.high < 0
            assert found.p_holm >= found.p


def test_holm_runs_over_all_configurations(group):
    rows = sorted(metric(group, "accuracy_loglik", "terra").rows, key=lambda row: row.p)
    assert rows[0].p_holm == pytest.approx(min(1, 4 * rows[0].p))
    assert rows[1].p_holm == pytest.approx(min(1, max(4 * rows[0].p, 3 * rows[1].p)))


def test_balance_is_the_sum_of_changes_of_macro_f1(group):
    assert f1_metric_of(group) == {"nerus": "macro_f1", "terra": "macro_f1_loglik"}
    for one, nerus, terra in zip(
        group.balance, metric(group, "macro_f1").rows, metric(group, "macro_f1_loglik", "terra").rows, strict=True
    ):
        assert one.published.value == pytest.approx(nerus.relative.value + terra.relative.value)
        assert one.absolute.value == pytest.approx(nerus.change.value + terra.change.value)
        assert one.published.low < one.published.value < one.published.high
        assert one.absolute.low < one.absolute.value < one.absolute.high
    gain = metric(group, "micro_f1").rows[2].change
    assert group.balance[2].gain == gain


def f1_metric_of(group):
    return {one.name: f1_metric(_Evidence(one)) for one in group.tasks}


@dataclasses.dataclass
class _Evidence:
    task: object


def test_a_front_point_is_not_dominated(group):
    shares = {one.configuration: one.on_front for one in group.balance}
    assert all(0 <= share <= 1 for share in shares.values())
    assert shares["mlp"] > 0.9, "it gains far more than what is smaller"
    assert shares["full"] < shares["mlp"], "no better and a hundred times larger"


@pytest.fixture(scope="module")
def balanced(tmp_path_factory):
    """One that learns, the same answers from a larger one, one that learns less, and one below the base everywhere."""
    root = tmp_path_factory.mktemp("balanced")
    for r, parameters, skill, answers in (
        (2, 2000, BETTER, "equal"),
        (4, 4000, BETTER, "equal"),
        (8, 1000, GOOD, "less"),
        (16, 10, {"nerus": 0.05, "terra": 0.3}, "worse"),
    ):
        adapter = LORA | {"r": r}
        write_run(root / str(r), adapter=adapter, skill=skill, parameters=parameters, answers=answers)
    (group,) = compare_runs(*read_runs([root]), resamples=1000).groups
    return {one.configuration: one for one in group.balance}


def test_a_front_excludes_what_another_or_the_base_dominates(balanced):
    assert balanced["lora r=2"].on_front > 0.9
    assert balanced["lora r=4"].on_front == 0, "equal answers from twice the parameters"
    assert balanced["lora r=16"].on_front < 0.05, "the smallest, but the base is better at both tasks"


def test_a_balance_is_held_against_the_leaders_over_the_same_draws(balanced):
    leader = max(balanced.values(), key=lambda one: one.published.value)
    assert leader.configuration == "lora r=2" and leader.published_behind is leader.absolute_behind is None
    twin, worse = balanced["lora r=4"], balanced["lora r=16"]
    assert twin.published.high - twin.published.low > 0.1
    for one in (twin.published_behind, twin.absolute_behind):
        assert (one.value, one.low, one.high) == (0, 0, 0), "equal answers differ in no draw"
    assert worse.published_behind.value == pytest.approx(worse.published.value - leader.published.value)
    assert worse.absolute_behind.value == pytest.approx(worse.absolute.value - leader.absolute.value)
    assert worse.published_behind.low < worse.published_behind.value < worse.published_behind.high < 0
    assert worse.absolute_behind.high < 0


def test_costs_are_medians(group):
    costs = {one.configuration: one for one in group.costs}
    assert costs["mlp"].trainable_parameters == 9000 and costs["mlp"].share == pytest.approx(0.009)
    assert (costs["mlp"].wall_s, costs["mlp"].training_s, costs["mlp"].saved_bytes) == (51.0, 31.0, 36_000)
    assert costs["mlp"].peak_device_bytes is None


def test_quantisation_is_a_factor(group):
    assert group.facts["quantizations"] == ["nf4", "none"]
    assert metric(group, "micro_f1").base.keys() == {"nf4", "none"}


def test_equal_runs_and_seed_give_an_equal_comparison(folder, comparison):
    again = compare_runs(*read_runs([folder]), resamples=2000)
    assert again.groups[0].tasks == comparison.groups[0].tasks
    assert again.groups[0].balance == comparison.groups[0].balance


def test_order_of_items_and_names_of_documents_do_not_matter(folder, comparison, tmp_path):
    moved = shutil.copytree(folder, tmp_path / "sweep")
    names: dict[str, str] = {}
    for number, file in enumerate(sorted(moved.rglob("*.jsonl"))):
        rows = [
            dataclasses.replace(row, group=names.setdefault(row.group, f"{hash(row.group)}"))
            for row in read_predictions(file)
        ]
        random.Random(number).shuffle(rows)
        write_predictions(file, rows)
    again = compare_runs(*read_runs([moved]), resamples=2000)
    assert again.groups[0].tasks == comparison.groups[0].tasks
    assert again.groups[0].balance == comparison.groups[0].balance


def test_other_bases_items_and_prompts_are_split(tmp_path):
    write_run(tmp_path / "0", count=30)
    write_run(tmp_path / "1", count=30, seed=1)
    write_run(tmp_path / "2", count=30, checkpoint="8" * 64)
    write_run(tmp_path / "3", count=25)
    write_run(tmp_path / "4", count=30, changes={"task": {"max_new_tokens": 9}})
    write_run(tmp_path / "5", count=30)
    for file in (tmp_path / "5").rglob("nerus.*.jsonl"):
        write_predictions(file, [dataclasses.replace(row, prompt_hash="other") for row in read_predictions(file)])
    write_run(tmp_path / "6", count=30, adapter=MLP, tasks=("nerus",))
    write_run(tmp_path / "7", count=30, adapter=MLP | {"hidden_dim": 4}, tasks=("terra",))
    comparison = compare_runs(*read_runs([tmp_path]), resamples=100)
    members = [
        sorted(run.folder.name for one in group.configurations for run in one.runs) for group in comparison.groups
    ]
    assert members == [["0", "1", "6", "7"], ["2"], ["3"], ["4"], ["5"]]
    assert [(one.code, one.values.get("task")) for one in comparison.split] == [
        ("other_checkpoint", None),
        ("other_items", "nerus"),
        ("other_settings", "nerus"),
        ("other_prompts", "nerus"),
    ]
    assert comparison.split[1].values["common"] == 25 and comparison.split[2].values["key"] == "max_new_tokens"
    missing = [
        (w.values["task"], w.values["configuration"]) for w in comparison.groups[0].warnings if w.code == "task_missing"
    ]
    assert missing == [("nerus", "mlp hidden_dim=4"), ("terra", "mlp hidden_dim=16")]


def partitions(runs):
    """How every order of the runs is split, by the runs' names."""
    found = set()
    for order in itertools.permutations(runs):
        groups, reasons = comparable_groups(order)
        assert len(reasons) == len(groups) - 1, "each further group says how it differs"
        assert [run for group in groups for run in group if run is group[0]] == sorted(
            (group[0] for group in groups), key=order.index
        )
        found.add(frozenset(frozenset(run.folder.name for run in group) for group in groups))
    return found


def test_the_order_of_runs_does_not_decide_the_groups(tmp_path):
    for name, tasks in (("nerus", ["nerus"]), ("terra", ["terra"]), ("both", ["nerus", "terra"])):
        write_run(tmp_path / name, tasks=tasks, count=15)
    write_run(tmp_path / "other", tasks=["terra"], count=12)
    runs, _ = read_runs([tmp_path])
    assert partitions(runs) == {frozenset({frozenset({"nerus", "terra", "both"}), frozenset({"other"})})}
    apart = [run for run in runs if run.folder.name in ("nerus", "terra")]
    assert comparable_groups(apart)[1][0].code == "other_tasks"


def test_a_run_that_fits_two_groups_is_in_the_same_one_in_any_order(tmp_path):
    """Two runs contradict each other on one task; a third was scored on the other task only."""
    for name, tasks in (("special", ["nerus", "terra"]), ("general", ["nerus", "terra"]), ("fits both", ["nerus"])):
        write_run(tmp_path / name, tasks=tasks, count=15)
    change_record(tmp_path / "special", lambda data: data["tasks"]["terra"].update(role="special"))
    runs, _ = read_runs([tmp_path])
    (found,) = partitions(runs)
    assert sorted(map(len, found)) == [1, 2]


def test_budgets_and_learning_rates_are_told(tmp_path):
    write_run(tmp_path / "0", count=30)
    write_run(tmp_path / "1", count=30, changes={"trainer": {"learning_rate": 0.5}})
    write_run(tmp_path / "2", count=30, adapter=MLP)
    change_record(tmp_path / "2", lambda data: data["training"].update(epochs=5.0))
    change_record(tmp_path / "2", lambda data: data["versions"].update(torch="2.14.0"))
    group = compare_runs(*read_runs([tmp_path]), resamples=100).groups[0]
    found = {one.code: one.values for one in group.warnings}
    assert found["budget_differs"]["key"] == "epochs" and found["budget_differs"]["values"]["mlp"] == 5.0
    assert (
        len(found["learning_rate_effort"]["rates"]["lora"]) == 2
        and len(found["learning_rate_effort"]["rates"]["mlp"]) == 1
    )
    assert found["versions_differ"]["library"] == "torch"
    assert [one.name for one in group.configurations][1] == "lora learning_rate=0.5"


def test_rows_of_all_processes_are_the_batch_size(tmp_path):
    for name, processes, rows, seed in (("0", 2, 4, 0), ("1", 1, 8, 1), ("2", 1, 4, 0), ("3", None, 4, 1)):
        write_run(tmp_path / name, count=15, seed=seed, changes={"trainer": {"batch_size": rows}})
        change_record(tmp_path / name, lambda data, processes=processes: data["host"].update(processes=processes))
    comparison = compare_runs(*read_runs([tmp_path]), resamples=100)
    found = {one.name: [run.folder.name for run in one.runs] for one in comparison.groups[0].configurations}
    assert found == {"lora batch_size=8": ["0", "1"], "lora batch_size=4": ["2", "3"]}


def test_every_data_set_that_was_trained_on_is_kept(tmp_path):
    for seed, fingerprint in enumerate("aba"):
        write_run(tmp_path / str(seed), seed=seed, count=15)
        train = {"fingerprint": fingerprint * 64, "items": 10 + seed}
        change_record(tmp_path / str(seed), lambda data, train=train: data["data"]["nerus"].update(train=train))
    change_record(tmp_path / "2", lambda data: data["data"]["nerus"].update(validation={"fingerprint": "v"}))
    facts = compare_runs(*read_runs([tmp_path]), resamples=100).groups[0].facts
    assert [(one["fingerprint"][0], one["items"]) for one in facts["data_variants"]["nerus"]["train"]] == [
        ("a", 10), ("b", 11)
    ]  # fmt: skip
    assert facts["data_variants"]["nerus"].keys() == {"train"}
    assert facts["data"]["nerus"]["train"]["items"] == 10 and facts["data"]["nerus"]["validation"]["fingerprint"] == "v"


def test_a_base_that_answered_differently_is_told(tmp_path):
    write_run(tmp_path / "0", count=30)
    write_run(tmp_path / "1", count=30, seed=1)
    rows = read_predictions(tmp_path / "1" / "predictions" / "terra.base.jsonl")
    first, *rest = rows
    other = {
        key: 1.0 - value if key.startswith("loglik") and value else value for key, value in first.statistics.items()
    }
    write_predictions(
        tmp_path / "1" / "predictions" / "terra.base.jsonl", [dataclasses.replace(first, statistics=other), *rest]
    )

    def forget(data):
        data["evaluation"]["base"]["terra"] = {
            "accuracy_generated": data["evaluation"]["base"]["terra"]["accuracy_generated"]
        }

    change_record(tmp_path / "1", forget)
    group = compare_runs(*read_runs([tmp_path]), resamples=100).groups[0]
    warning = next(one for one in group.warnings if one.code == "base_differs")
    assert (warning.values["task"], warning.values["runs"], warning.values["total"]) == ("terra", 1, 2)


def test_gates_take_findings_away():
    good_news = frozenset({"higher", "tie"})
    everything = frozenset({"higher", "lower", "tie"})
    assert [verdict(one, good_news) for one in ("higher", "tie", "lower")] == ["withheld", "withheld", "lower"]
    assert verdict("not_measured", good_news) == "not_measured"
    assert verdict("not_measured", everything) == "withheld"
    # The first is worse than the second, whose own good news are doubtful: that the second is better is good news.
    assert pair_verdict("lower", frozenset(), good_news) == "withheld"
    assert pair_verdict("higher", frozenset(), good_news) == "higher"
    assert pair_verdict("tie", frozenset(), good_news) == "withheld"
    assert pair_verdict("lower", good_news, frozenset()) == "lower"


def test_a_doubtful_configuration_has_no_place(group):
    found = metric(group, "micro_f1")
    taken = dict.fromkeys((row.configuration for row in found.rows), frozenset()) | {
        "mlp": frozenset({"higher", "tie"})
    }
    ranked, unranked = places(found.rows, found.pairs, taken)
    assert unranked == ("mlp",) and ranked[0] == ("full",)
