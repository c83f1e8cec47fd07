"""Scores of both classes of one draw, as histograms, against the Gaussians that the theory predicts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loralaw.report.plots import Axis, Figure, panel_layout, rounded
from loralaw.report.theory_plot import Key
from loralaw.report.theory_sheet import Numbers, Panel, Sheet
from loralaw.report.wording import significant
from loralaw.theory.arguments import Floats

N_BINS = 40
N_PLACES = 121
REACH = 4.0
"""Standard deviations around the outer means that a plot shows."""

CLASSES = (("class −1", "series-2"), ("class +1", "series-1"))
HEADINGS = ["", "mean, predicted", "drawn", "s.d., predicted", "drawn", "right (%), predicted", "drawn"]


@dataclass(frozen=True)
class ScoreDraw:
    """Scores of fresh rows at one row scale, and what the theory says of the signed score."""

    label: str
    negative: Floats
    positive: Floats
    mean: float
    std: float
    accuracy: float


def score_sheet(draws: Sequence[ScoreDraw], *, title: str, subtitle: str) -> Sheet:
    """One panel a draw."""
    return Sheet(
        title=title,
        subtitle=subtitle,
        lead=[
            "The theory says that scores of each class are Gaussian, with the mean and standard deviation of the "
            "lines; the bars are fresh rows, scored by a classifier that was fitted to training rows drawn for it."
        ],
        panels=[Panel(draw.label, _figure(draw), f"Scores of both classes at {draw.label}") for draw in draws],
        keys=[
            *(Key(f"{name}, drawn", paint, "bar") for name, paint in CLASSES),
            *(Key(f"{name}, predicted", paint, "solid") for name, paint in CLASSES),
        ],
        numbers=[
            Numbers(
                "Signed scores y·⟨w, x⟩",
                HEADINGS,
                [_row(draw) for draw in draws],
                "A single draw of training rows differs from the theory, less so with more features and rows.",
            )
        ],
    )


def _figure(draw: ScoreDraw) -> Figure:
    reach = draw.mean + REACH * draw.std if draw.mean > 0 else -draw.mean + REACH * draw.std
    edges = np.linspace(-reach, reach, N_BINS + 1)
    traces = []
    for (name, paint), scores in zip(CLASSES, (draw.negative, draw.positive), strict=True):
        density = np.histogram(scores, edges)[0] / (scores.size * (edges[1] - edges[0]))
        traces.append(_bars(name, paint, edges, density))
    for (name, paint), centre in zip(CLASSES, (-draw.mean, draw.mean), strict=True):
        traces.append(_gaussian(name, paint, reach, centre, draw.std))
    layout = panel_layout(Axis("score"), Axis("density"))
    layout.update(barmode="overlay", bargap=0, height=300)
    return {"data": traces, "layout": layout}


def _bars(name: str, paint: str, edges: Floats, density: Floats) -> Figure:
    middles = (edges[:-1] + edges[1:]) / 2
    return {
        "type": "bar",
        "name": name,
        "x": [rounded(float(x)) for x in middles],
        "y": [rounded(float(y)) for y in density],
        "width": rounded(float(edges[1] - edges[0])),
        "marker": {"color": f"@{paint}", "line": {"width": 0}},
        "opacity": 0.4,
        "hoverinfo": "skip",
    }


def _gaussian(name: str, paint: str, reach: float, centre: float, std: float) -> Figure:
    x = np.linspace(-reach, reach, N_PLACES)
    y = np.exp(-(((x - centre) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi))
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [rounded(float(value)) for value in x],
        "y": [rounded(float(value)) for value in y],
        "line": {"width": 2, "color": f"@{paint}"},
        "text": f"{name}: mean {significant(centre)}, standard deviation {significant(std)}",
        "hoverinfo": "text",
    }


def _row(draw: ScoreDraw) -> list[str]:
    signed = np.concatenate([-draw.negative, draw.positive])
    spread = math.sqrt((draw.negative.var() + draw.positive.var()) / 2)
    pairs = (draw.mean, signed.mean(), draw.std, spread, 100 * draw.accuracy, 100 * (signed > 0).mean())
    return [draw.label, *(significant(float(value)) for value in pairs)]
