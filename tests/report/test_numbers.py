"""Numbers as strings."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_exp.comparison.model import Estimate
from adapter_exp.report.numbers import (
    change,
    change_with_relative,
    compact,
    interval,
    p_value,
    percent,
    rounded_up,
    score,
    share,
    whole,
)

NUMBERS = st.floats(-1e6, 1e6)


@pytest.mark.parametrize(
    ("base", "adapted", "shown"),
    [
        (0.2983, 0.3875, "+0.0892 (+29.90%)"),
        (0.44, 0.39, "-0.0500 (-11.36%)"),
        (0.3615, 0.3615, "0.0000 (0.00%)"),
    ],
)
def test_changes_of_the_published_table(base, adapted, shown):
    assert change_with_relative(adapted - base, (adapted - base) / base) == shown


def test_a_base_of_0_has_no_relative_change():
    assert change_with_relative(0.25, None) == "+0.2500 (–)"


@pytest.mark.parametrize("missing", [None, math.nan, math.inf])
def test_what_is_no_number_is_a_dash(missing):
    assert [show(missing) for show in (score, change, percent, p_value, whole, share)] == ["–"] * 6
    assert interval(Estimate(0.5, missing, 0.6)) == "" and interval(None) == ""


@given(NUMBERS)
def test_signs_and_digits(value):
    shown = change(value)
    assert not shown.startswith(("-0.0000", "+0.0000"))
    assert float(shown) == pytest.approx(value, abs=0.0051 if abs(value) >= 100 else 0.000051)
    assert float(score(value)) == float(shown)
    assert (shown[0] in "+-") == (float(shown) != 0)


@given(st.floats(0.001, 1e9))
def test_items_needed_are_never_rounded_down(value):
    shown = int(rounded_up(value).replace("\u00a0", ""))
    assert value <= shown <= max(value * 1.1, value + 1) + 1e-6 * value


def test_other_shapes():
    assert whole(27_262_976) == "27\u00a0262\u00a0976" and whole(999) == "999"
    assert (p_value(0.0004), p_value(0.0314), p_value(1.0)) == ("<0.001", "0.031", "1.000")
    shares = [share(value) for value in (1.0, 0.016, 0.0135, 0.004, 0.000012, 0.0)]
    assert shares == ["100.00%", "1.60%", "1.35%", "0.400%", "0.00120%", "0.00%"]
    assert (compact(1e-3), compact(16.0), compact(True), compact(["q_proj", 4])) == ("0.001", "16", "true", "q_proj, 4")
    assert interval(Estimate(0.1, -0.05, 0.25), signed=True) == "[-0.0500, +0.2500]"
    assert interval(Estimate(0.1, -0.05, 0.25), relative=True) == "[-5.00%, +25.00%]"
    assert score(123.456) == "123.46"
