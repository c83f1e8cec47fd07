"""What was simulated or measured beside what the theory predicts."""

import math
from collections.abc import Sequence

from loralaw.report.theory_plot import Seen
from loralaw.report.theory_sheet import Numbers
from loralaw.report.wording import counted, plain, significant
from loralaw.theory.arguments import Floats

ENOUGH_DRAWS = 20
"""From so many on a standard error means something."""

SeenLine = tuple[str, Seen, Floats]
"""Name of a line, its points, and what the theory predicts where they are, in the line's unit."""


def seen_sentence(lines: Sequence[SeenLine], word: str, unit: str) -> list[str]:
    """How far the points are from the theory, in a sentence; none without points."""
    apart = [
        (abs(_errors(y - p, e)), abs(y - p), f"{label} at α = {plain(x)}")
        for label, seen, predicted in lines
        for x, y, e, p in zip(seen.x, seen.y, seen.stderr, map(float, predicted), strict=True)
    ]
    if not apart:
        return []
    points = counted(len(apart), f"{word} point")
    n_draws = min(seen.n_draws for _, seen, _ in lines)
    if n_draws < ENOUGH_DRAWS:
        far = f"at most {_in_unit(max(gap for _, gap, _ in apart), unit)} off the theory"
        said = f"The {points} {'is' if len(apart) == 1 else 'are'} {far}"
        return [f"{said}; {counted(n_draws, 'draw')} are too few to say whether that is chance."]
    errors, gap, where = max(apart)
    off = f"{_in_unit(gap, unit)} off ({significant(errors, 2)} standard errors)"
    return [f"Of {points}, the furthest from the theory in standard errors is {off}: {where}."]


def seen_numbers(lines: Sequence[SeenLine], word: str, unit: str) -> list[Numbers]:
    """A row a point; no table without points."""
    rows = [
        [label, plain(x), significant(p, 4), f"{significant(y, 4)} ± {significant(e, 2)}", _signed(y - p, e)]
        for label, seen, predicted in lines
        for x, y, e, p in zip(seen.x, seen.y, seen.stderr, map(float, predicted), strict=True)
    ]
    if not rows:
        return []
    in_unit = f" ({unit})" if unit else ""
    headings = ["curve", "α", f"predicted{in_unit}", f"{word}{in_unit}", "apart (s.e.)"]
    note = (
        f"± is one standard error over draws, itself rough where draws are fewer than about {ENOUGH_DRAWS}. The points "
        "of one curve come from the same draws: they err together."
    )
    return [Numbers(f"Predicted and {word}", headings, rows, note)]


def _in_unit(gap: float, unit: str) -> str:
    return f"{significant(gap, 2)} {unit}".rstrip()


def _errors(apart: float, error: float) -> float:
    """In standard errors."""
    return apart / error if error > 0 else math.copysign(math.inf, apart) if apart else 0.0


def _signed(apart: float, error: float) -> str:
    value = _errors(apart, error)
    return significant(value, 2) if value <= 0 else f"+{significant(value, 2)}"
