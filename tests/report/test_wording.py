import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loralaw.report.wording import counted, duration, listed, plot_text, significant, size


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_three_significant_digits_are_within_half_a_unit_of_the_third(value: float) -> None:
    text = significant(value)
    if "×10" in text:
        mantissa, _, power = text.partition("×10")
        shown = float(mantissa) * 10.0 ** int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    else:
        shown = float(text.replace(",", ""))

    assert shown == pytest.approx(value, rel=0.0051)


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_a_negative_number_is_its_opposite_with_a_minus_sign(value: float) -> None:
    assert significant(-value) == "−" + significant(value)


def test_rounding_up_to_the_next_power_of_ten_keeps_three_digits() -> None:
    assert significant(9.999) == "10.0"
    assert significant(999.9) == "1,000"


def test_what_is_no_number_is_said() -> None:
    assert significant(None) == "–"
    assert significant(math.nan) == "–"
    assert significant(math.inf) == "∞"


def test_sizes_and_durations() -> None:
    assert size(999_999) == "999,999"
    assert size(1_300_000) == "1.30 M"
    assert duration(59.99) == "60.0 s"
    assert duration(3600) == "1 h 0 min"
    assert duration(None) == "–"


def test_plurals_and_lists() -> None:
    assert [counted(n, "cell") for n in (0, 1, 2, 12345)] == ["no cells", "1 cell", "2 cells", "12,345 cells"]
    assert listed(["a", "b", "c"]) == "a, b and c"


@given(st.text())
def test_plotly_sees_no_tag_in_any_name(name: str) -> None:
    assert "<" not in plot_text(name)
    assert ">" not in plot_text(name)
