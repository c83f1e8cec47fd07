"""Numbers in sentences, with as many digits as their interval has meaning."""

import math


def with_interval(middle: float, low: float, high: float) -> str:
    """A value and its interval to three significant digits, or as many as show that the interval has a width.

    >>> with_interval(4.2931, 4.2885, 4.2972), with_interval(0.0104, 0.0021, 0.0312)
    ('4.293 [4.288, 4.297]', '0.0104 [0.0021, 0.0312]')
    """
    largest = max((abs(value) for value in (middle, low, high) if math.isfinite(value)), default=0.0)
    width = high - low
    decimals = _decimals(largest, 3)
    if math.isfinite(width) and width > 1e-9 * largest:
        decimals = max(decimals, _decimals(width, 1))
    return f"{_fixed(middle, decimals)} [{_fixed(low, decimals)}, {_fixed(high, decimals)}]"


def three_digits(value: float) -> str:
    """A number to three significant digits.

    >>> three_digits(0.012345), three_digits(12345.6)
    ('0.0123', '12,346')
    """
    return _fixed(value, _decimals(abs(value), 3))


def rows_were(count: int) -> str:
    """`1 row was`, `12 rows were`."""
    return "1 row was" if count == 1 else f"{count:,} rows were"


def _decimals(value: float, digits: int) -> int:
    return max(0, digits - 1 - math.floor(math.log10(value))) if value > 0 else 0


def _fixed(value: float, decimals: int) -> str:
    if not math.isfinite(value):
        return "∞" if value > 0 else "-∞"
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text  # no minus zero
