"""Risk of a regression against the row scale α: the theory's curves, what was simulated, and the answer in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from loralaw.report.accuracy_sheet import ENDS_NOTE, GUIDES, inside, marks_inside, places
from loralaw.report.plots import Axis
from loralaw.report.seen_table import seen_numbers, seen_sentence
from loralaw.report.theory_plot import Line, Seen, keys, theory_plot
from loralaw.report.theory_sheet import Numbers, Panel, Sheet
from loralaw.report.wording import plain, significant
from loralaw.theory import Regression

HEADINGS = ["curve", "best α", "risk at best", "at α = 1", "at α = 0"]


@dataclass(frozen=True)
class RiskCurve:
    """One setting, single numbers throughout."""

    label: str
    setting: Regression
    seen: Seen | None = None
    """Risks at row scales, simulated."""


def risk_sheet(curves: Sequence[RiskCurve], ends: tuple[float, float], *, title: str, subtitle: str) -> Sheet:
    """Risk against α from one end to the other, best α, and what there is to gain.

    Args:
        curves: one line each.
        ends: of α.
        title: of the page.
        subtitle: the setting.
    """
    lines = [_line(curve, ends) for curve in curves]
    compared = [
        (line.label, line.seen, curve.setting.predict(line.seen.x).risk)
        for line, curve in zip(lines, curves, strict=True)
        if line.seen is not None
    ]
    return Sheet(
        title=title,
        subtitle=subtitle,
        lead=[_sentence(curve) for curve in curves] + seen_sentence(compared, "simulated", ""),
        panels=[
            Panel(
                "",
                theory_plot(
                    Axis("row scale α"),
                    Axis("risk on new rows"),
                    lines,
                    inside(GUIDES, ends),
                ),
                f"Risk against the row scale from {plain(ends[0])} to {plain(ends[1])}",
            )
        ],
        keys=keys(lines, "simulated"),
        numbers=[
            Numbers("The theory", HEADINGS, [_row(curve) for curve in curves]),
            *seen_numbers(compared, "simulated", ""),
        ],
        notes=["Risk is the expected squared error on a new row, summed over outputs, with the noise. " + ENDS_NOTE],
    )


def _line(curve: RiskCurve, ends: tuple[float, float]) -> Line:
    best = curve.setting.best_row_scale()
    marks = {
        "best": (float(best.best), float(best.risk_best)),
        "one": (1.0, float(best.risk_at_1)),
        "zero": (0.0, float(best.risk_at_0)),
    }
    x = places(ends, [place for place, _ in marks.values()])
    y = [float(value) for value in curve.setting.predict(x).risk]
    return Line(curve.label, x, y, marks_inside(marks, ends), curve.seen)


def _sentence(curve: RiskCurve) -> str:
    best, risk_best, at_1, at_0 = _shown(curve)
    return f"{curve.label}: best at α = {best}, with a risk of {risk_best}; {at_1} at α = 1, {at_0} at α = 0."


def _row(curve: RiskCurve) -> list[str]:
    return [curve.label, *_shown(curve)]


def _shown(curve: RiskCurve) -> list[str]:
    best = curve.setting.best_row_scale()
    return [significant(float(value)) for value in (best.best, best.risk_best, best.risk_at_1, best.risk_at_0)]
