"""Numbers and names as text: three significant digits, units, and nothing that a plot could take for markup."""

import html
import math
from collections.abc import Iterable

ABSENT = "–"


def significant(value: float | None, digits: int = 3) -> str:
    """A number with three significant digits, whole numbers from a thousand on with separators.

    >>> [significant(v) for v in (2.4142, 0.012345, 12345.6, 0.0, -1.5, 3.2e-7, None)]
    ['2.41', '0.0123', '12,300', '0', '−1.50', '3.20×10⁻⁷', '–']
    """
    if value is None or not math.isfinite(value):
        return ABSENT if value is None or math.isnan(value) else ("∞" if value > 0 else "−∞")
    if value == 0:
        return "0"
    sign, size = ("−" if value < 0 else ""), abs(value)
    mantissa, _, power = f"{size:.{digits - 1}e}".partition("e")
    exponent = int(power)
    if exponent < -4 or exponent > 8:
        return f"{sign}{mantissa}×10{_superscript(exponent)}"
    if exponent >= digits - 1:
        return f"{sign}{round(float(f'{mantissa}e{exponent}')):,}"
    return f"{sign}{size:.{digits - 1 - exponent}f}"


def plain(value: float) -> str:
    """A number that someone chose, as it was chosen.

    >>> plain(-10.0), plain(0.25), plain(5000)
    ('−10', '0.25', '5000')
    """
    return f"{value:g}".replace("-", "−")


def whole(value: int | float | None) -> str:
    """A count or a size: all of its digits, with separators."""
    return ABSENT if value is None else f"{round(value):,}"


def size(value: float) -> str:
    """A size for an axis or a sentence: `4,096`, from a million on `6.31 M`.

    >>> size(4096), size(6310000), size(7.6e9)
    ('4,096', '6.31 M', '7.60 B')
    """
    for limit, letter in ((1e9, "B"), (1e6, "M")):
        if value >= limit:
            return f"{significant(value / limit)} {letter}"
    return whole(value)


def duration(seconds: float | None) -> str:
    """Seconds as a person says them.

    >>> duration(0.5), duration(41.2), duration(27), duration(161), duration(7260)
    ('0.500 s', '41.2 s', '27 s', '2 min 41 s', '2 h 1 min')
    """
    if seconds is None or not math.isfinite(seconds):
        return ABSENT
    if seconds < 60:
        return f"{seconds if isinstance(seconds, int) else significant(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def counted(number: int, noun: str) -> str:
    """`1 cell`, `72 cells`, `no cells`."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{f'{number:,}' if number else 'no'} {noun if number == 1 else plural}"


def listed(parts: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = list(parts) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def plot_text(text: object) -> str:
    """Text for a label or hover box of plotly, which reads a subset of HTML: every character stands for itself."""
    return html.escape(str(text), quote=False)


def _superscript(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
