"""Sentences from the numbers: never more than the tests allow."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from report.comparison_samples import balance, comparison, configuration, group, metric, ranks, row, task

from adapter_exp.comparison.model import Estimate, FailedGate, Reason, Refused
from adapter_exp.report.conclusions import conclusions
from adapter_exp.report.document import Bullets
from adapter_exp.report.texts import texts

LORA, MLP, DORA = (configuration(name) for name in ("lora", "mlp", "dora"))


def told(made, *, all_of=None, language="en") -> tuple[str, str]:
    """The conclusions and the next steps, each as one text with ordinary spaces."""
    section = conclusions(all_of or comparison(made), made, texts(language))
    lines = [
        "\n".join(item for block in part.blocks if isinstance(block, Bullets) for item in block.items)
        for part in section.sections
    ]
    return lines[0].replace("\u00a0", " "), lines[1].replace("\u00a0", " ")


def two(first, second, places, **options):
    return group([LORA, MLP], [task(metric([first, second], places, **options))])


def test_a_leader_that_the_tests_set_apart_is_the_best():
    said, _ = told(two(row("lora", 0.3), row("mlp", 0.5), [["mlp"], ["lora"]]))
    assert "Best on the special task nerus: mlp, micro_f1 0.5000, change +0.3000 (+150.00%)" in said
    assert "above every other ranked configuration and above the base" in said


def test_a_shared_first_place_is_a_tie_and_never_called_equal():
    said, following = told(two(row("lora", 0.48), row("mlp", 0.5), [["mlp", "lora"]]))
    assert "No single best on the special task nerus: mlp and lora share the first place" in said
    assert "A difference below 0.0421 would often go unseen" in said
    assert "Best on" not in said and "equal" not in said and "same" not in said
    wanted = "to tell mlp from lora, about 780 test items would be needed (now 120 in 60 documents; with as many items"
    assert wanted in following
    assert "(0.0200)" in following


def test_the_highest_of_ties_with_the_base_is_not_called_better_than_the_base():
    said, following = told(two(row("lora", 0.21, "tie"), row("mlp", 0.22, "tie"), [["mlp", "lora"]]))
    assert "None of them is shown to be above the base" in said
    assert "against the base: a tie (no difference shown): mlp (+0.0200) and lora (+0.0100)" in said
    assert "to tell mlp from the base, about 400 test items would be needed" in following
    alone, _ = told(two(row("lora", 0.1, "lower"), row("mlp", 0.22, "tie"), [["mlp"], ["lora"]]))
    assert "but not above the base" in alone and "Best on" not in alone


def failed(configuration, name, *, task="nerus", model=None) -> FailedGate:
    """A gate as the comparison holds it: those on an adapter's answers leave ``lower`` as it is."""
    good_news = name in ("majority", "parse_failures")
    taken = frozenset({"higher", "tie"} if good_news else {"higher", "lower", "tie"})
    return FailedGate(configuration, 0, task, model, name, Reason(name), taken)


def test_what_gates_withhold_is_no_claim():
    rows = [row("lora", 0.4, "withheld"), row("mlp", 0.5, "withheld")]
    gates = (failed("lora", "one_label"), failed("mlp", "one_label"))
    made = group([LORA, MLP], [task(metric(rows, [], unranked=["lora", "mlp"]))], gates=gates)
    said, following = told(made)
    assert "withheld: mlp (+0.3000) and lora (+0.2000)" in said
    assert "Best on the special task nerus: no claim" in said and "higher" not in said
    assert "Left out of the ranking on the special task nerus by gates (one label): lora and mlp." in said
    assert following.startswith("nerus: first repair what the gates found (one label)")
    assert "test items would be needed" not in following


def test_one_withheld_configuration_is_left_out_of_the_ranking():
    rows = [row("lora", 0.4), row("mlp", 0.5, "withheld")]
    gates = (failed("mlp", "majority", model="adapted"),)
    made = group([LORA, MLP], [task(metric(rows, [["lora"]], unranked=["mlp"]))], gates=gates)
    said, following = told(made)
    assert "only lora has a place" in said and "compared with no other" in said and "Best on" not in said
    assert "Left out of the ranking on the special task nerus by gates (trivial answer): mlp" in said
    assert "nerus: look into mlp before running more like it (gates: trivial answer)" in following


def test_a_loss_that_gates_leave_standing_still_has_no_place():
    """A majority gate takes away that mlp is better; that it is worse is told."""
    rows = [row("lora", 0.4), row("mlp", 0.1, "lower"), row("dora", 0.3)]
    untested = replace(rows[2], test=None, verdict="not_measured", finding="not_measured")
    found = metric([*rows[:2], untested], [["lora"]], unranked=["mlp", "dora"])
    gates = (failed("mlp", "majority", model="adapted"),)
    said, _ = told(group([LORA, MLP, DORA], [task(found)], gates=gates))
    assert "lower: mlp (-0.1000)" in said
    assert "Left out of the ranking on the special task nerus by gates (trivial answer): mlp." in said
    assert "Without a place on the special task nerus, because no test could be made: dora." in said


def test_figures_without_tests_are_only_the_highest_figures():
    rows = [
        replace(row(name, value), verdict="not_measured", finding="not_measured", p=None, p_holm=None)
        for name, value in (("lora", 0.4), ("mlp", 0.5))
    ]
    said, _ = told(group([LORA, MLP], [task(metric(rows, [], unranked=["lora", "mlp"]), items=None)]))
    assert "nothing can be tested. Highest figure: mlp, micro_f1 0.5000" in said and "Best on" not in said


def test_equal_figures_everywhere_are_a_tie_with_the_base():
    same = row("lora", 0.2, "tie")
    general = task(metric([row("lora", 0.2, "withheld")], [], name="accuracy"), name="terra", role="general")
    said, _ = told(group([LORA], [task(metric([same], [["lora"]])), general]))
    assert "lora against the base: a tie. Of 2 numbers, all are equal to the base's." in said
    assert "withhold this finding" not in said
    gates = (failed("lora", "equals_base", task=None, model="adapted"),)
    doubtful, _ = told(group([LORA], [task(metric([same], [["lora"]])), general], gates=gates))
    assert "are equal to the base's. Gates withhold this finding of a tie: equals the base." in doubtful
    changed = group([LORA], [task(metric([same], [["lora"]])), task(metric([row("lora", 0.3)], [["lora"]]), name="x")])
    assert "against the base: a tie. Of" not in told(changed)[0]


def test_no_forgetting_shown_is_not_told_as_no_forgetting():
    general = task(metric([row("lora", 0.19, "tie")], [["lora"]]), name="terra", role="general")
    said, _ = told(group([LORA], [task(metric([row("lora", 0.5)], [["lora"]])), general]))
    assert "does not mean that nothing was forgotten: a change below 0.0312 would often go unseen" in said


@pytest.mark.parametrize(
    ("behind", "shown"),
    [
        (Estimate(-0.3, -0.5, -0.1), True),  # although their own intervals overlap
        (Estimate(-0.3, -0.7, 0.1), False),
        (Estimate(-0.3), False),
        (None, False),
    ],
)
def test_the_best_balance_names_what_is_not_shown_to_be_below_it(behind, shown):
    made = two(row("lora", 0.3), row("mlp", 0.5), [["mlp"], ["lora"]])
    lora = replace(balance("lora", Estimate(0.5, 0.3, 0.7)), published_behind=behind)
    said, _ = told(replace(made, balance=(lora, balance("mlp", Estimate(0.8, 0.6, 1.0)))))
    assert "Highest balance score (nerus and terra): mlp, +80.00% [+60.00%, +100.00%]." in said
    assert (": lora." in said[said.index("Highest balance") :]) is not shown


def test_a_balance_without_interval_or_under_gates_is_a_number_only():
    """A verdict ``lower`` stands under a majority gate, but a balance is good news."""
    made = two(row("lora", 0.3), row("mlp", 0.5), [["mlp"], ["lora"]])
    balances = (balance("lora", Estimate(0.0)), balance("mlp", Estimate(0.2256)))
    general = task(metric([row("mlp", 0.1, "lower")], [], unranked=["mlp"]), name="terra", role="general")
    made = replace(made, balance=balances, tasks=(*made.tasks, general))
    said, _ = told(made)
    assert "mlp, +22.56%." in said and "order of balance scores is not tested" in said and "no claim" not in said
    gated, _ = told(replace(made, gates=(failed("mlp", "majority", task="terra", model="adapted"),)))
    assert "Gates withhold findings on terra (trivial answer), so this is a number and no claim" in gated
    of_another, _ = told(replace(made, gates=(failed("lora", "majority", task="terra", model="adapted"),)))
    assert "no claim" not in of_another


def test_a_base_of_0_leaves_the_absolute_sum():
    made = two(row("lora", 0.3, base=0.0), row("mlp", 0.5, base=0.0), [["mlp"], ["lora"]])
    rows = (balance("lora", None), balance("mlp", None, gain=0.4))
    said, _ = told(replace(made, balance=rows))
    assert "Highest sum of absolute changes (nerus and terra): mlp, +0.3000" in said and "Highest balance" not in said


def test_the_number_tried_stands_beside_every_leader():
    _, made = ranks(5)
    said, _ = told(made.groups[0])
    assert said.startswith("Tried: 5 configurations, 15 runs. A leader below is the best of these on the test items")
    alone, following = told(group([LORA], [task(metric([row("lora", 0.5)], [["lora"]]))]))
    assert alone.startswith("A sweep of one (1 configuration, 3 runs)") and "Best on" not in alone
    assert "Compare it with something" in following


def test_the_choice_on_validation_is_told_with_its_own_test_score():
    lora, mlp = configuration("lora", validation=0.7), configuration("mlp", validation=0.6)
    found = metric([row("lora", 0.4), row("mlp", 0.5)], [["mlp"], ["lora"]])
    said, _ = told(group([lora, mlp], [task(found)]))
    assert "Chosen on validation (nerus, micro_f1 0.7000): lora. Score on test, free of the choice: 0.4000." in said
    assert "no claim" not in said
    gated, _ = told(group([lora, mlp], [task(found)], gates=(failed("lora", "overlap"),)))
    assert "0.4000. Gates withhold findings on nerus (overlap), so this is a number and no claim." in gated
    absent, _ = told(group([lora, mlp], [task(metric([row("mlp", 0.5)], [["mlp"]]))]))
    assert "Chosen on validation (nerus, micro_f1 0.7000): lora. Without a score on test: lora." in absent
    missing, _ = told(group([lora, MLP], [task(found)]))
    assert "no choice on validation can be shown" in missing


def test_a_leader_at_the_edge_of_the_sweep_asks_for_more():
    _, high = ranks(4)
    assert (
        "lora: the highest score is at the upper edge of adapter.r (tried: 2, 4, 8, 16). Try 32 and beyond."
        in told(high.groups[0])[1]
    )
    names = ("lora r=4", "lora r=8")
    sweep = [configuration(name, axes={"adapter.r": 4 * n}) for n, name in enumerate(names, 1)]
    rows = [row(names[0], 0.5), row(names[1], 0.3)]
    low = group(sweep, [task(metric(rows, [[names[0]], [names[1]]]))])
    assert "lower edge of adapter.r (4; tried: 4, 8). Try less." in told(low)[1]
    flat = told(group(sweep, [task(metric(rows, [names]))]))[1]
    assert "no difference found between the values of adapter.r (4, 8) where nothing else differs" in flat
    assert "one smaller than 0.0421 could have gone unnoticed" in flat and "cheapest" not in flat and "edge" not in flat


def grid(tied) -> str:
    """The next steps of r = 4, 8 x alpha = 8, 16; ``tied`` says whether the test left two configurations tied."""
    sweep = [
        configuration(f"lora r={r} alpha={alpha}", axes={"adapter.r": r, "adapter.alpha": alpha})
        for r in (4, 8)
        for alpha in (8, 16)
    ]
    rows = [row(one.name, 0.3 + 0.01 * number) for number, one in enumerate(sweep)]
    found = metric(rows, [[one.name for one in reversed(sweep)]])
    axes = {one.name: one.axes for one in sweep}
    pairs = [
        pair if tied(axes[pair.first], axes[pair.second]) else replace(pair, verdict="lower", finding="lower")
        for pair in found.pairs
    ]
    return told(group(sweep, [task(replace(found, pairs=tuple(pairs)))]))[1]


def test_an_axis_is_in_vain_only_where_every_test_along_it_is_a_tie():
    """All four share the first place, for that needs a tie with the leader alone."""
    assert "values of adapter.r (4, 8)" in grid(lambda one, other: True)
    assert "values of adapter.alpha (8, 16)" in grid(lambda one, other: True)
    low_alpha = grid(lambda one, other: not one["adapter.alpha"] == other["adapter.alpha"] == 8)
    assert "values of adapter.r" not in low_alpha and "values of adapter.alpha" in low_alpha
    assert "upper edge of adapter.r" in low_alpha
    both_differ = grid(lambda one, other: len(set(one.items()) & set(other.items())) == 1)
    assert "values of adapter.r" in both_differ, "pairs that differ in both axes say nothing on one of them"


def test_every_kind_in_the_first_place_is_looked_at():
    sweep = [configuration(f"lora r={r}", axes={"adapter.r": r}) for r in (4, 8)]
    sweep += [configuration(f"mlp hidden_dim={size}", axes={"adapter.hidden_dim": size}) for size in (16, 64)]
    values = (0.3, 0.5, 0.32, 0.49)
    rows = [row(one.name, value) for one, value in zip(sweep, values, strict=True)]
    places = [[sweep[1].name, sweep[3].name], [sweep[2].name, sweep[0].name]]
    _, following = told(group(sweep, [task(metric(rows, places))]))
    assert "lora: the highest score is at the upper edge of adapter.r" in following
    assert "mlp: the highest score is at the upper edge of adapter.hidden_dim" in following


@pytest.mark.parametrize(
    ("values", "asked"), [((1, 2), False), ((2, 4), True), ((0.0, 0.1), False), ((0.05, 0.1), True), ((-1, 1), False)]
)
def test_nothing_below_the_least_that_there_is_asked_for(values, asked):
    sweep = [configuration(f"lora x={value}", axes={"adapter.x": value}) for value in values]
    rows = [row(sweep[0].name, 0.5), row(sweep[1].name, 0.3)]
    _, following = told(group(sweep, [task(metric(rows, [[sweep[0].name], [sweep[1].name]]))]))
    assert ("lower edge of adapter.x" in following) is asked


def test_a_difference_that_no_test_set_would_show_is_told_as_too_small():
    found = metric([row("lora", 0.2001, "tie"), row("mlp", 0.2002, "tie")], [["mlp", "lora"]])
    for needed, enough in ((20 * 120, True), (20 * 120 + 1, False)):
        rows = tuple(replace(one, items_needed=needed) for one in found.rows)
        pairs = tuple(replace(one, items_needed=needed) for one in found.pairs)
        _, following = told(group([LORA, MLP], [task(replace(found, rows=rows, pairs=pairs))]))
        assert ("test items would be needed" in following) is enough
        for words in ("if mlp differs from the base at all (+0.0002)", "if mlp and lora differ at all (0.0001)"):
            assert (f"{words}, it is too little for this test set: more than 20 times" in following) is not enough


def test_items_are_those_that_separate_the_first_place():
    """What scored second and has no place, or is in the second place already, needs no more items."""
    rows = [row("mlp", 0.5), row("lora", 0.49), row("dora", 0.48)]
    found = metric(rows, [["mlp", "dora"]], unranked=["lora"])
    gates = (failed("lora", "majority", model="adapted"),)
    _, following = told(group([LORA, MLP, DORA], [task(found)], gates=gates))
    assert "to tell mlp from dora" in following and "from lora" not in following


def test_a_leader_inside_the_sweep_asks_for_no_other_range():
    names = ("lora r=4", "lora r=8", "lora r=16")
    sweep = [configuration(name, axes={"adapter.r": 4 * 2**n}) for n, name in enumerate(names)]
    rows = [row(name, value) for name, value in zip(names, (0.3, 0.5, 0.4), strict=True)]
    _, following = told(group(sweep, [task(metric(rows, [[names[1]], [names[2]], [names[0]]]))]))
    assert following == "These tests leave nothing open that another run of this kind would settle."


def test_a_kind_that_had_one_setting_is_told_beside_others():
    small, large = (configuration(f"lora r={r}") for r in (4, 8))
    rows = [row(name, 0.3) for name in ("lora r=4", "lora r=8", "mlp")]
    places = [["mlp", "lora r=8", "lora r=4"]]
    _, following = told(group([small, large, MLP], [task(metric(rows, places))]))
    assert "Tried in one setting only: mlp. Another size" in following
    _, following = told(group([small, large], [task(metric(rows[:2], [places[0][1:]]))]))
    assert "one setting" not in following


def test_seeds_that_are_few_or_loud_ask_for_more():
    one = configuration("lora", seeds=(0,))
    single = replace(row("lora", 0.3), by_seed=(0.3,), seed_sd=None)
    _, few = told(group([one], [task(metric([single], [["lora"]]))]))
    assert "Run at least 3 seeds of lora" in few
    _, loud = told(two(row("lora", 0.21, "tie", sd=0.05), row("mlp", 0.5, sd=0.05), [["mlp"], ["lora"]]))
    assert "seeds spread more than the change of lora." in loud


def test_refused_runs_are_not_forgotten():
    made = two(row("lora", 0.3), row("mlp", 0.5), [["mlp"], ["lora"]])
    whole = comparison(made, refused=(Refused(LORA.runs[0].folder, Reason("record_damaged")),))
    assert "Look at the refused runs (1)" in told(made, all_of=whole)[1]


def test_both_languages_say_the_same_numbers():
    _, made = ranks(6)
    pattern = re.compile(r"[-+]?\d+(?:\.\d+)?%?")
    numbers = [pattern.findall(" ".join(told(made.groups[0], language=language))) for language in ("en", "ru")]
    assert numbers[0] == numbers[1] and len(numbers[0]) > 30
