"""Plots of a comparison: drawn from its numbers, labelled in its language, readable with many configurations."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.text import Text
from report.comparison_samples import comparison, configuration, group, metric, ranks, row, task

from adapter_exp.comparison.model import Estimate, FailedGate, Reason
from adapter_exp.report.axes import swept_axes
from adapter_exp.report.canvas import COLORS, MARKERS, looks, new_figure, place_labels, png, thousands, wrapped
from adapter_exp.report.comparison import build_document
from adapter_exp.report.plot_axes import metric_against_axis
from adapter_exp.report.plot_changes import change_by_configuration
from adapter_exp.report.plot_losses import loss_curves
from adapter_exp.report.plot_tradeoffs import gain_against_forgetting, has_costs, quality_against_cost
from adapter_exp.report.texts import texts

EN, RU = texts("en"), texts("ru")
NF4 = {"quantization.kind": "nf4"}


def pixels(figure) -> np.ndarray:
    return imread(io.BytesIO(png(figure)))


def test_every_figure_of_a_report_can_be_drawn_and_is_not_blank():
    document = build_document(ranks(5)[1], "ru")
    assert [figure.name for figure in document.figures()] == [
        "change_nerus", "change_terra", "axis_nerus_adapter.r", "axis_terra_adapter.r", "gain_forgetting_nerus_terra",
        "cost_nerus", "cost_terra", "loss",
    ]  # fmt: skip
    for figure in document.figures():
        image = pixels(figure.draw())[..., :3]
        assert image.std() > 0.03, f"{figure.name} is blank"
        assert image.shape[0] >= 300 and image.shape[1] >= 800


def test_changes_are_drawn_where_they_are_and_hollow_where_not_shown():
    rows = [row("lora", 0.5), row("mlp", 0.21, "tie")]
    made = group([configuration("lora"), configuration("mlp")], [task(metric(rows, [["lora"], ["mlp"]]))])
    figure = change_by_configuration(made, made.tasks[0], EN)
    (axes,) = figure.axes
    points = [line for line in axes.lines if line.get_marker() not in ("None", "|", "")]
    assert [pytest.approx(line.get_xdata()[0]) for line in points] == [0.3, 0.01]
    assert [line.get_markerfacecolor() for line in points][1] == "white" != points[0].get_markerfacecolor()
    assert points[0].get_color() != points[1].get_color() and points[0].get_marker() != points[1].get_marker()
    assert [text.get_text() for text in axes.get_yticklabels()] == ["lora", "mlp"]
    assert "change of micro_f1" in axes.get_xlabel()


def test_labels_are_in_the_chosen_language():
    made, _ = ranks(3)
    for draw in (
        lambda t: change_by_configuration(made, made.tasks[0], t),
        lambda t: gain_against_forgetting(made, made.balance, t),
        lambda t: metric_against_axis(made, made.tasks[0], swept_axes(made)[0], t),
        lambda t: loss_curves(made, t),
    ):
        (english,), (russian,) = draw(EN).axes, draw(RU).axes
        assert english.get_title("left") and english.get_title("left") != russian.get_title("left")
        assert any(letter in russian.get_title("left") + russian.get_xlabel() for letter in "аоеи")


def boxes(figure, labels):
    """Boxes of the texts alone; an annotation's own box includes its thin line."""
    figure.draw_without_rendering()
    return [Text.get_window_extent(label) for label in labels]


def test_labels_of_many_configurations_do_not_overlap():
    made, _ = ranks(24)
    figure = gain_against_forgetting(made, made.balance, EN)
    labels = [text for text in figure.axes[0].texts if text.get_text().isdigit()]
    assert sorted(int(label.get_text()) for label in labels) == list(range(1, 25))
    assert not [1 for one, other in combinations(boxes(figure, labels), 2) if one.overlaps(other)]


def test_labels_of_points_in_one_place_do_not_overlap():
    with new_figure(width=6, height=4) as (figure, (axes,)):
        axes.plot([1] * 12, [1] * 12, "o")
        labels = place_labels(figure, axes, [(1, 1)] * 12, [str(n) for n in range(12)])
    assert not [1 for one, other in combinations(boxes(figure, labels), 2) if one.overlaps(other)]


def test_numbers_at_the_ends_of_loss_curves_do_not_overlap():
    made, _ = ranks(24)
    figure = loss_curves(made, EN)
    labels = [text for text in figure.axes[0].texts if text.get_text().isdigit()]
    figure.draw_without_rendering()
    heights = sorted(label._get_xy_display()[1] for label in labels)  # the box would include the thin line
    assert len(labels) == 24 and min(np.diff(heights)) > 8


def test_costs_are_drawn_for_what_is_known():
    made, _ = ranks(4)
    assert len(quality_against_cost(made, made.tasks[0], EN).axes) == 3
    unknown = tuple(replace(one, training_s=None, peak_rss_bytes=None) for one in made.costs)
    only_parameters = replace(made, costs=unknown)
    (axes,) = quality_against_cost(only_parameters, made.tasks[0], EN).axes
    assert axes.get_xlabel() == "trainable parameters"
    nothing = replace(made, costs=tuple(replace(one, trainable_parameters=None) for one in unknown))
    assert not has_costs(nothing, made.tasks[0])
    assert not [one for one in build_document(comparison(nothing), "en").figures() if one.name.startswith("cost")]


def test_the_axis_shows_the_values_tried_and_the_seeds():
    made, _ = ranks(4)
    (axes,) = metric_against_axis(made, made.tasks[0], swept_axes(made)[0], EN).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "4", "8", "16"]
    assert axes.get_xscale() == "log" and "spread over seeds" in axes.get_xlabel()
    dots = [tuple(line.get_ydata()) for line in axes.lines if line.get_marker() == "."]
    assert dots == [one.by_seed for one in made.tasks[0].metrics[0].rows]


def legend(figure) -> list[str]:
    return [text.get_text().replace("\n", " ") for text in figure.legends[0].get_texts()]


def test_a_line_is_named_by_what_varies_within_its_kind_alone():
    """MLP is on another quantisation everywhere: that tells no line of LoRA from another."""
    grid = [(r, rate) for r in (4, 16) for rate in (1e-3, 1e-2)]
    sweep = [
        configuration(f"lora r={r} rate={rate}", axes={"adapter.r": r, "trainer.learning_rate": rate, **NF4})
        for r, rate in grid
    ]
    sweep.append(configuration("mlp", axes={"trainer.learning_rate": 1e-3, "quantization.kind": "none"}))
    rows = [row(one.name, 0.3 + 0.1 * number) for number, one in enumerate(sweep)]
    made = group(sweep, [task(metric(rows, [[one.configuration] for one in reversed(rows)]))])
    figure = metric_against_axis(made, made.tasks[0], swept_axes(made)[0], EN)
    assert legend(figure) == ["lora learning_rate=0.001", "lora learning_rate=0.01", "base"]
    both = [
        replace(one, axes={**one.axes, "quantization.kind": kind}) for one, kind in zip(sweep, "aabbc", strict=True)
    ]
    figure = metric_against_axis(replace(made, configurations=tuple(both)), made.tasks[0], swept_axes(made)[0], EN)
    assert "lora learning_rate=0.001 quantization=a" in legend(figure)


def test_the_base_is_drawn_at_each_quantisation():
    made, _ = ranks(3)
    special = made.tasks[0]
    found = replace(special.metrics[0], base={"nf4": Estimate(0.2), "none": Estimate(0.25), "int8": Estimate(0.2)})
    figure = metric_against_axis(made, replace(special, metrics=(found,)), swept_axes(made)[0], EN)
    assert legend(figure)[1:] == ["base (nf4), base (int8)", "base (none)"]
    lines = {
        line.get_ydata()[0]: line.get_linestyle() for line in figure.axes[0].lines if len(set(line.get_ydata())) == 1
    }
    assert lines[0.2] != lines[0.25]


def test_ticks_are_few_whole_where_steps_are_and_without_an_offset():
    made, _ = ranks(4)
    near = tuple(replace(one, peak_rss_bytes=700_000_000 + 1000 * n) for n, one in enumerate(made.costs))
    figure = quality_against_cost(replace(made, costs=near), made.tasks[0], EN)
    figure.draw_without_rendering()
    memory = figure.axes[2].xaxis
    shown = [label.get_text() for label in memory.get_ticklabels()]
    assert memory.get_offset_text().get_text() == "" and 2 <= len(set(shown)) == len(shown) <= 6
    low, high = memory.get_view_interval()
    assert high - low > 0.05, "a thousand bytes are not drawn as a large difference"
    (losses,) = loss_curves(made, EN).axes
    losses.set_xlim(1, 3)
    assert all(tick == int(tick) for tick in losses.get_xticks())


def faces(axes) -> list[bool]:
    """Whether each point is hollow."""
    return [line.get_markerfacecolor() == "white" for line in axes.lines if line.get_marker() in MARKERS]


def test_what_gates_withhold_is_hollow_and_the_key_says_so():
    made, _ = ranks(3)
    name = made.configurations[1].name
    gate = FailedGate(name, 0, "terra", "adapted", "majority", Reason("majority"), frozenset({"higher", "tie"}))
    gated = replace(made, gates=(gate,))
    for draw, expected in (
        (lambda one: gain_against_forgetting(one, one.balance, EN), [False, True, False]),
        (lambda one: quality_against_cost(one, one.tasks[1], EN), [False, True, False]),
        (lambda one: quality_against_cost(one, one.tasks[0], EN), [False, False, False]),  # another task
    ):
        assert faces(draw(gated).axes[0]) == expected
        assert (legend(draw(gated))[-1] == "hollow: withheld by a gate") is any(expected)
        assert not any(faces(draw(made).axes[0])) and len(legend(draw(made))) == 3


def test_values_that_are_no_numbers_stand_beside_each_other():
    layers = ("last:4", "every:4", "all")
    sweep = [configuration(f"lora layers={value}", axes={"adapter.layers": value}) for value in layers]
    rows = [row(one.name, 0.3 + 0.1 * number) for number, one in enumerate(sweep)]
    made = group(sweep, [task(metric(rows, [[one.configuration] for one in reversed(rows)]))])
    (axis,) = swept_axes(made)
    (axes,) = metric_against_axis(made, made.tasks[0], axis, EN).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == list(layers)
    assert next(iter(axes.lines)).get_linestyle() == "None", "no line where nothing lies between"


def test_axes_are_settings_with_several_values_within_a_kind():
    axes = [{"adapter.r": 4, "trainer.learning_rate": 1e-3, "quantization.kind": "nf4"},
            {"adapter.r": 16, "trainer.learning_rate": 1e-3, "quantization.kind": "none"}]  # fmt: skip
    sweep = [configuration(f"lora {n}", axes=values) for n, values in enumerate(axes)]
    other = configuration("mlp", axes={"trainer.learning_rate": 1e-2, "quantization.kind": "nf4"})
    assert [(one.key, one.values) for one in swept_axes(group([*sweep, other], []))] == [("adapter.r", (4, 16))]


def test_looks_tell_configurations_apart():
    one_kind = looks(ranks(24)[0])
    assert len({(look.color, look.marker, look.line) for look in one_kind.values()}) == 24
    kinds = [configuration(name) for name in ("lora a", "lora b", "mlp a")]
    two = looks(group(kinds, []))
    assert two["lora a"].color == two["lora b"].color != two["mlp a"].color
    assert two["lora a"].line != two["lora b"].line and set(COLORS) >= {two["mlp a"].color}


def test_hostile_and_long_names_are_drawn():
    name = "lora $\\frac{1}{0}$ " + "x" * 300 + "\x1b[31m\n"
    made = group(
        [configuration(name), configuration("mlp")],
        [task(metric([row(name, 0.5), row("mlp", 0.4)], [[name], ["mlp"]]))],
    )
    for figure in build_document(comparison(made), "en").figures():
        assert pixels(figure.draw())[..., :3].std() > 0.03
    assert all(len(line) <= 40 for line in wrapped(name).splitlines()) and wrapped(name).count("\n") == 2


def test_ticks_of_thousands():
    assert [thousands(value) for value in (5, 2000, 1.5e6, 2e9)] == ["5", "2k", "1.5M", "2G"]
