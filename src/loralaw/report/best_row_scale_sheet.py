"""The best row scale against what the setting is, for a source that was fitted and one that is known."""

import math
from collections.abc import Sequence

from loralaw.report.plots import Axis
from loralaw.report.theory_plot import Line, keys, theory_plot
from loralaw.report.theory_sheet import Numbers, Panel, Sheet
from loralaw.report.wording import plain, significant, whole
from loralaw.theory.published import BestRowScaleAxis

AXES = {
    "beta": Axis("β, similarity of the tasks"),
    "n_target": Axis("n, rows of the target", ticks=[10, 100, 1000, 10_000], log=True),
    "gamma_target": Axis("γ, penalty of the fine-tuning", ticks=[0.01, 0.1, 1, 10, 100], log=True),
}
SYMBOLS = {"beta": "β", "n_target": "n", "gamma_target": "γ"}
TITLES = {"beta": "By similarity β", "n_target": "By rows n", "gamma_target": "By penalty γ"}
ROWS_SHOWN = 5
HEIGHT = 340


def best_row_scale_sheet(axes: Sequence[BestRowScaleAxis], *, title: str, subtitle: str) -> Sheet:
    """One panel an axis, in which the others stay as they are."""
    lines = {axis.name: _lines(axis) for axis in axes}
    return Sheet(
        title=title,
        subtitle=subtitle,
        lead=[_sentence(axis) for axis in axes],
        panels=[
            Panel(TITLES[axis.name], _figure(axis, lines[axis.name]), f"Best row scale {TITLES[axis.name].lower()}")
            for axis in axes
        ],
        keys=keys(lines[axes[0].name], ""),
        numbers=[
            Numbers("Best α", ["", "ridge source", "known source"], [row for axis in axes for row in _rows(axis)])
        ],
        notes=[
            "The known source is w̃ = μ/(‖μ‖² + 1 + γ̃), which the ridge source becomes of endlessly many rows. Its α "
            "can be larger because it carries no noise."
        ],
    )


def _lines(axis: BestRowScaleAxis) -> list[Line]:
    x = [float(value) for value in axis.values]
    named = (("ridge source", axis.ridge), ("known source", axis.known))
    return [Line(label, x, [float(value) for value in best]) for label, best in named]


def _figure(axis: BestRowScaleAxis, lines: list[Line]) -> dict[str, object]:
    figure = theory_plot(AXES[axis.name], Axis("best α"), lines)
    figure["layout"]["height"] = HEIGHT
    return figure


def _sentence(axis: BestRowScaleAxis) -> str:
    """The lowest and the highest best α of the ridge source, and where they are."""
    finite = [(float(b), float(v)) for b, v in zip(axis.ridge, axis.values, strict=True) if math.isfinite(b)]
    (low, at_low), (high, at_high) = min(finite), max(finite)
    return (
        f"{TITLES[axis.name]}: the best α of the ridge source runs from {significant(low)} at {_place(axis, at_low)} "
        f"to {significant(high)} at {_place(axis, at_high)}."
    )


def _rows(axis: BestRowScaleAxis) -> list[list[str]]:
    picked = [round(i * (len(axis.values) - 1) / (ROWS_SHOWN - 1)) for i in range(ROWS_SHOWN)]
    return [
        [_place(axis, axis.values[i]), significant(float(axis.ridge[i])), significant(float(axis.known[i]))]
        for i in picked
    ]


def _place(axis: BestRowScaleAxis, value: float) -> str:
    said = whole(float(value)) if axis.name == "n_target" else plain(float(f"{value:.3g}"))
    return f"{SYMBOLS[axis.name]} = {said}"
