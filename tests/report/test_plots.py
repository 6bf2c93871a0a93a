"""The pictures: drawn from the record, labelled, and absent where there is nothing to show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_exp.report.plots import before_after, loss_curve, running_mean, write_plots
from adapter_exp.tracking.record import RecordData, RunRecord


def test_files_are_written_as_png(data: RecordData, tmp_path: Path):
    written = write_plots(tmp_path, data)
    assert [path.name for path in written] == ["loss.png", "before_after.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written)


def test_the_loss_curve_shows_the_recorded_points_and_units(data: RecordData):
    figure = loss_curve(data)
    assert figure is not None
    (axes,) = figure.axes
    raw, smoothed, validation, _ = axes.lines
    assert list(raw.get_ydata()) == [point["loss"] for point in data["training"]["loss"]]
    assert len(smoothed.get_ydata()) == len(raw.get_ydata())
    assert list(validation.get_xdata()) == [30, 60]
    assert "nats" in axes.get_ylabel() and "step" in axes.get_xlabel()


def test_before_after_shows_each_primary_metric_with_the_finding(data: RecordData):
    figure = before_after(data)
    assert figure is not None
    titles = [(axes.get_title("left"), axes.get_title("right")) for axes in figure.axes]
    assert titles[0] == ("nerus: f1", "change +0.240 [+0.190, +0.290]: higher")
    assert titles[1][0] == "terra: accuracy_loglik" and titles[1][1].endswith("withheld")


@pytest.mark.parametrize("value", [0.5, 1.0, 83.0])
def test_a_base_alone_and_other_scales_are_drawn(data: RecordData, tmp_path: Path, value: float):
    interval = {"value": value, "low": value, "high": value}
    alone = {**data, "evaluation": {"base": {"nerus": {"f1": interval}}}}
    assert [path.name for path in write_plots(tmp_path, alone)] == ["loss.png", "before_after.png"]


def test_nothing_to_show_draws_nothing(tmp_path: Path):
    record = RunRecord.create(tmp_path, run_id="r", config={}, config_hash="h", seed=0)
    record.update("training", {"loss": [{"step": 1, "loss": float("nan")}]})
    assert write_plots(tmp_path, record.data) == []
    assert not (tmp_path / "plots").exists()


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.integers(1, 10))
def test_the_running_mean_is_the_mean_of_the_last_values(values, window):
    expected = [np.mean(values[max(0, end - window) : end]) for end in range(1, len(values) + 1)]
    np.testing.assert_allclose(running_mean(values, window), expected, atol=1e-9)
