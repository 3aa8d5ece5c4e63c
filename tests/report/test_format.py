"""Numbers read the same everywhere, and never claim more or less than they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2seg_agent.report.format import (
    format_equals,
    format_intensity,
    format_ml,
    format_p,
    format_score,
    format_window,
    plural,
    significant,
)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (None, "–"), (0.0, "< 0.001"), (0.00099, "< 0.001"), (0.001, "0.00100"), (0.03123, "0.0312"),
        (0.5, "0.500"), (0.9996, "1.00"), (1.0, "1.00"),
    ],
)  # fmt: skip
def test_p_values_have_three_significant_digits(p, text):
    assert format_p(p) == text


def test_p_values_in_a_sentence():
    assert format_equals("q", 0.0004) == "q < 0.001"
    assert format_equals("q", 0.04) == "q = 0.0400"
    assert format_equals("q", None) == "no q"


@pytest.mark.parametrize(
    ("ml", "text"), [(1.3611, "1.36 ml"), (48.43, "48.4 ml"), (1477.2, "1480 ml"), (0.0204, "0.0204 ml"), (0.0, "0 ml")]
)
def test_volumes(ml, text):
    assert format_ml(ml) == text


def test_hounsfield_units_are_whole_numbers():
    assert format_intensity(-45.4, "HU") == "−45 HU"
    assert format_intensity(-0.4, "HU") == "0 HU"
    assert format_intensity(1234.5, "arbitrary") == "1230"


def test_windows():
    assert format_window((-1350.0, 150.0), "HU") == "−1350…150 HU"
    assert format_window((0.0, 812.5), "arbitrary") == "0…812.5"
    assert format_window(None, "arbitrary") == "0.5–99.5 percentile"


def test_a_score_has_no_floor():
    assert format_score(0.0000123) == "0.0000123"
    assert format_score(None) == "–"


def test_plurals():
    assert [plural(n, "finding") for n in (0, 1, 2)] == ["0 findings", "1 finding", "2 findings"]


@given(st.floats(1e-6, 1e6), st.integers(1, 6))
def test_rounding_stays_within_half_a_unit_of_the_last_digit(value, digits):
    text = significant(value, digits)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=0.5001 * 10 ** (1 - digits))
