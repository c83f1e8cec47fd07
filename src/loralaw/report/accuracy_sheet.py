"""Accuracy against the row scale α: the theory's curves, what was simulated or measured, and the answer in words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from loralaw.report.plots import Axis
from loralaw.report.seen_table import seen_numbers, seen_sentence
from loralaw.report.theory_plot import Line, Seen, keys, theory_plot
from loralaw.report.theory_sheet import Numbers, Panel, Sheet
from loralaw.report.wording import plain, significant
from loralaw.theory import BestRowScale, FineTuning
from loralaw.theory.arguments import Floats

N_PLACES = 201
GUIDES = (0.0, 1.0)
HEADINGS = [
    "curve",
    "best α",
    "right at best (%)",
    "at α = 1 (%)",
    "at α = 0 (%)",
    "best over 1 (points)",
    "half right at α",
]
ENDS_NOTE = "α = 1 leaves the source as it is, as LoRA does; α = 0 does not use it."
HALF_NOTE = "Where half of the new rows are right, a coin would do as well (the paper's worst α)."


@dataclass(frozen=True)
class AccuracyCurve:
    """One setting, single numbers throughout."""

    label: str
    setting: FineTuning
    seen: Seen | None = None
    """Accuracies from 0 to 1 at row scales, simulated or measured."""


def accuracy_sheet(
    curves: Sequence[AccuracyCurve],
    ends: tuple[float, float],
    *,
    title: str,
    subtitle: str,
    seen: str = "simulated",
    notes: Sequence[str] = (),
) -> Sheet:
    """Accuracy against α from one end to the other, best and worst α, and what there is to gain.

    Args:
        curves: one line each.
        ends: of α.
        title: of the page.
        subtitle: the setting.
        seen: what the points are, in a word.
        notes: how to read it, beside what holds of every such plot.
    """
    lines = [_line(curve, ends) for curve in curves]
    compared = [
        (line.label, line.seen, 100 * curve.setting.predict(line.seen.x).accuracy)
        for line, curve in zip(lines, curves, strict=True)
        if line.seen is not None
    ]
    lead = [_sentence(curve.label, curve.setting.best_row_scale(), curve.setting) for curve in curves]
    return Sheet(
        title=title,
        subtitle=subtitle,
        lead=lead + seen_sentence(compared, seen, "points"),
        panels=[
            Panel(
                "",
                theory_plot(Axis("row scale α"), Axis("right on new rows (%)"), lines, inside(GUIDES, ends)),
                f"Accuracy against the row scale from {plain(ends[0])} to {plain(ends[1])}",
            )
        ],
        keys=keys(lines, seen),
        numbers=[
            Numbers("The theory", HEADINGS, [_row(curve.label, curve.setting.best_row_scale()) for curve in curves]),
            *seen_numbers(compared, seen, "%"),
        ],
        notes=[ENDS_NOTE, *([HALF_NOTE] if any("half" in line.marks for line in lines) else []), *notes],
    )


def places(ends: tuple[float, float], marks: Sequence[float]) -> list[float]:
    """Evenly from one end to the other, with what is marked among them."""
    grid = np.concatenate([np.linspace(*ends, N_PLACES), inside(marks, ends)])
    return [float(x) for x in np.unique(grid)]


def marks_inside(marks: dict[str, tuple[float, float]], ends: tuple[float, float]) -> dict[str, tuple[float, float]]:
    """Those that a plot between the ends can show."""
    return {k: (x, y) for k, (x, y) in marks.items() if ends[0] <= x <= ends[1] and math.isfinite(y)}


def inside(values: Sequence[float], ends: tuple[float, float]) -> list[float]:
    """Those between the ends, which count too."""
    return [value for value in values if ends[0] <= value <= ends[1]]


def _line(curve: AccuracyCurve, ends: tuple[float, float]) -> Line:
    best = curve.setting.best_row_scale()
    marks = {
        "best": (float(best.best), 100 * float(best.accuracy_best)),
        "half": (float(best.worst), 50.0),
        "one": (1.0, 100 * float(best.accuracy_at_1)),
        "zero": (0.0, 100 * float(best.accuracy_at_0)),
    }
    x = places(ends, [place for place, _ in marks.values()])
    y = [100 * float(value) for value in curve.setting.predict(x).accuracy]
    seen = curve.seen and replace(
        curve.seen, y=[100 * value for value in curve.seen.y], stderr=[100 * error for error in curve.seen.stderr]
    )
    return Line(curve.label, x, y, marks_inside(marks, ends), seen)


def _sentence(label: str, best: BestRowScale, setting: FineTuning) -> str:
    """`β = 0.5: best at α = 4.10, where 63.9 % of new rows are right; 61.3 % at α = 1, 54.9 % at α = 0. …`."""
    if not math.isfinite(best.accuracy_best):
        return f"{label}: these numbers tell no best α."
    others = f"{_percent(best.accuracy_at_1)} at α = 1, {_percent(best.accuracy_at_0)} at α = 0."
    return f"{label}: {_best_said(best)}; {others}{_half_right_said(best, setting)}"


def _best_said(best: BestRowScale) -> str:
    if math.isfinite(best.best):
        return (
            f"best at α = {significant(float(best.best))}, where {_percent(best.accuracy_best)} of new rows are right"
        )
    side = "larger" if best.best > 0 else "further below 0"
    return f"the {side} α, the better, up to {_percent(best.accuracy_best)} of new rows right"


def _half_right_said(best: BestRowScale, setting: FineTuning) -> str:
    if not math.isfinite(best.worst):
        return ""
    side = "Below" if setting.curve.a1 > 0 else "Above"
    return f" {side} α = {significant(float(best.worst))} fewer than half are right."


def _row(label: str, best: BestRowScale) -> list[str]:
    accuracies = [float(value) for value in (best.accuracy_best, best.accuracy_at_1, best.accuracy_at_0)]
    gain = 100 * (accuracies[0] - accuracies[1])
    half = float(best.worst) if math.isfinite(best.worst) else None
    shown = [significant(100 * value) for value in accuracies]
    at = float(best.best) if math.isfinite(accuracies[0]) else None
    return [label, significant(at), *shown, significant(gain, 2), significant(half)]


def _percent(accuracy: Floats) -> str:
    return f"{significant(100 * float(accuracy))} %"
