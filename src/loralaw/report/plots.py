"""Figures as plain JSON for plotly.js. Colours are tokens (`@series-1`) that the page resolves for light and dark."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from loralaw.report.wording import plot_text, significant, size

Figure = dict[str, Any]

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "triangle-down")
"""One a series beside its colour, so that print and colour-blind readers can tell them apart."""

LAW_LEVEL = 0.95
MAX_TICKS = 9
MAX_ROWS_WITH_TEXT = 16
MAX_COLUMN_LABEL = 28
MAX_ROW_LABEL = 18
LEGEND_HEIGHT = 400


@dataclass(frozen=True)
class Points:
    """Cells of one series in a scatter plot."""

    label: str
    series: int
    x: list[float]
    y: list[float]
    cells: list[int]
    """Numbers of the cells in the page's list of cells, whose text a point shows when pointed at."""


Polyline = list[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """Title, whether the scale is logarithmic, and the sizes to mark (a log axis without them marks 1, 2 and 5)."""

    title: str
    ticks: list[float] | None = None
    log: bool = False
    ends: tuple[float, float] | None = None
    """Range of the data; that of the ticks if not given."""


@dataclass(frozen=True)
class Curve:
    """A fitted law with its band."""

    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]
    label: str


def colour(series: int) -> str:
    return f"@series-{series % 7 + 1}"


def symbol(series: int) -> str:
    """Colours and symbols repeat after 7 series, but then not in the same pairs."""
    return SYMBOLS[(series + series // 7) % 7]


def law_panel(
    x: Axis,
    y: Axis,
    points: list[Points],
    lines: dict[str, list[Polyline]],
    means: Polyline,
    curve: Curve | None,
    check: tuple[float, tuple[float, float, float]] | None,
) -> Figure:
    """Cells, lines of settings by colour, level means, the law with its band, and what the law of the smaller sizes
    says of the largest one, as far as they are given."""
    traces = [*_band(curve)] if curve else []
    traces += [_polylines(paint, of_colour) for paint, of_colour in lines.items()]
    traces += [_cells(p) for p in points]
    if means:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [m[0] for m in means],
                "y": [m[1] for m in means],
                "marker": {
                    "symbol": "line-ew-open",
                    "size": 18,
                    "color": "@ink",
                    "line": {"width": 2.5, "color": "@ink"},
                },
                "text": [f"mean {significant(m[1], 4)}" for m in means],
                "hoverinfo": "text",
                "name": "mean",
            }
        )
    if check:
        traces.append(_interval(*check))
    return {"data": traces, "layout": panel_layout(x, y)}


def cost_panel(x: Axis, y: Axis, points: list[Points], front: list[tuple[float, float, str]]) -> Figure:
    """Quality against cost; the front joins the configurations that nothing cheaper beats."""
    traces = [_cells(p) for p in points]
    line: Figure = {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [f[0] for f in front],
        "y": [f[1] for f in front],
        "line": {"shape": "hv", "width": 1.5, "color": "@ink"},
        "marker": {"symbol": "circle-open", "size": 14, "color": "@ink", "line": {"width": 1.5, "color": "@ink"}},
        "text": [plot_text(f[2]) for f in front],
        "hoverinfo": "text",
        "name": "Pareto front",
    }
    return {"data": [line, *traces], "layout": panel_layout(x, y)}


def heat_map(
    rows: list[str], columns: list[str], values: list[list[float | None]], unit: str, span: tuple[float, float]
) -> Figure:
    """Layer by module type; `span` is shared by the maps that a selector switches between."""
    trace: Figure = {
        "type": "heatmap",
        "x": [plot_text(c) for c in columns],
        "y": [plot_text(r) for r in rows],
        "z": [[None if value is None else rounded(value) for value in row] for row in values],
        "zmin": span[0],
        "zmax": span[1],
        "xgap": 2,
        "ygap": 2,
        "texttemplate": "%{z:.2g}" if len(rows) <= MAX_ROWS_WITH_TEXT else "",
        "hovertemplate": f"layer %{{y}}, %{{x}}<br>%{{z:.3g}} {unit}<extra></extra>",
        "colorscale": [[0, "@heat-low"], [0.5, "@heat-middle"], [1, "@heat-high"]],
        "showscale": True,
        "colorbar": {"thickness": 10, "len": 1, "outlinewidth": 0, "nticks": 5, "title": {"text": unit, "side": "top"}},
    }
    layout = panel_layout(Axis("module"), Axis("layer"))
    layout["xaxis"].update(name_axis(columns, MAX_COLUMN_LABEL), tickangle=-35)
    layout["yaxis"].update(name_axis(rows, MAX_ROW_LABEL), autorange="reversed")
    below = 70 + 5 * min(max(map(len, columns), default=0), MAX_COLUMN_LABEL)  # pixels that slanted labels need
    layout["height"] = below + max(len(rows) * (40 if len(rows) <= MAX_ROWS_WITH_TEXT else 16), 120)
    return {"data": [trace], "layout": layout}


def line_panel(x: Axis, y: Axis, lines: list[tuple[str, list[float], list[float | None]]]) -> Figure:
    """One line a name, each with its colour and symbol and a legend below."""
    traces: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": plot_text(name),
            "x": xs,
            "y": [None if y is None else rounded(y) for y in ys],
            "line": {"width": 1.5, "color": colour(i)},
            "marker": {"symbol": symbol(i), "size": 8, "color": colour(i)},
            "text": [f"{plot_text(name)}<br>{size(a)}: {significant(b)}" for a, b in zip(xs, ys, strict=True)],
            "hoverinfo": "text",
        }
        for i, (name, xs, ys) in enumerate(lines)
    ]
    layout = panel_layout(x, y)
    layout.update(
        showlegend=True, legend={"orientation": "h", "y": -0.24, "yanchor": "top", "x": 0}, height=LEGEND_HEIGHT
    )
    return {"data": traces, "layout": layout}


def rounded(value: float) -> float:
    """Five digits: more than a plot can show, fewer bytes in the page."""
    return float(f"{value:.5g}")


def hover_text(lines: list[str]) -> str:
    """Lines of a hover box."""
    return "<br>".join(plot_text(line) for line in lines)


def name_axis(names: list[str], limit: int) -> Figure:
    """An axis of names; of long ones the tick shows the end, which tells them apart."""
    short = [name if len(name) <= limit else "…" + name[1 - limit :] for name in names]
    return {
        "type": "category",
        "showgrid": False,
        "ticks": "",
        "tickmode": "array",
        "tickvals": [plot_text(name) for name in names],
        "ticktext": [plot_text(name) for name in short],
    }


def _cells(points: Points) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plot_text(points.label),
        "x": points.x,
        "y": points.y,
        "cells": points.cells,
        "hoverinfo": "text",
        "marker": {
            "symbol": symbol(points.series),
            "size": 7,
            "color": colour(points.series),
            "opacity": 0.75,
            "line": {"width": 0.5, "color": "@surface"},
        },
    }


def _interval(x: float, ends: tuple[float, float, float]) -> Figure:
    """A prediction with its interval as a bar."""
    middle, low, high = ends
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "held out",
        "x": [x],
        "y": [middle],
        "error_y": {
            "symmetric": False,
            "array": [rounded(high - middle)],
            "arrayminus": [rounded(middle - low)],
            "color": "@law",
            "thickness": 1.5,
            "width": 7,
        },
        "marker": {"symbol": "diamond-open", "size": 11, "color": "@law", "line": {"width": 2, "color": "@law"}},
        "text": [f"from the smaller sizes: {significant(middle, 4)} [{significant(low, 4)}, {significant(high, 4)}]"],
        "hoverinfo": "text",
    }


def _polylines(paint: str, lines: list[Polyline]) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [x for line in lines for x in (*(p[0] for p in line), None)],
        "y": [y for line in lines for y in (*(p[1] for p in line), None)],
        "line": {"width": 1, "color": paint},
        "opacity": 0.6,
        "hoverinfo": "skip",
    }


def _band(curve: Curve) -> list[Figure]:
    band: Figure = {
        "type": "scatter",
        "mode": "lines",
        "x": curve.x + curve.x[::-1],
        "y": curve.high + curve.low[::-1],
        "fill": "toself",
        "fillcolor": "@band",
        "line": {"width": 0, "color": "@band"},
        "hoverinfo": "skip",
        "name": "95 % band",
    }
    line: Figure = {
        "type": "scatter",
        "mode": "lines",
        "x": curve.x,
        "y": curve.y,
        "line": {"width": 2, "color": "@law"},
        "text": [
            f"{plot_text(curve.label)}: {significant(m, 4)} [{significant(a, 4)}, {significant(b, 4)}]"
            for m, a, b in zip(curve.y, curve.low, curve.high, strict=True)
        ],
        "hoverinfo": "text",
        "name": "law",
    }
    return [band, line]


def panel_layout(x: Axis, y: Axis) -> Figure:
    """What all figures share; fonts and colours of the page are set where it is drawn."""
    return {
        "xaxis": _axis(x),
        "yaxis": _axis(y),
        "showlegend": False,
        "hovermode": "closest",
        "margin": {"l": 60, "r": 16, "t": 12, "b": 52},
    }


def _axis(axis: Axis) -> Figure:
    layout: Figure = {
        "title": {"text": plot_text(axis.title), "standoff": 10},
        "type": "log" if axis.log else "linear",
        "zeroline": False,
        "automargin": True,
        "gridcolor": "@grid",
        "linecolor": "@axis",
        "tickcolor": "@axis",
        "ticks": "outside",
        "ticklen": 4,
        "showline": True,
    }
    ticks = _ones_twos_fives(*axis.ends) if axis.ends and axis.log else axis.ticks
    if ticks:
        picked = _spread(sorted(ticks))
        layout.update(tickmode="array", tickvals=picked, ticktext=[size(t) if t >= 1000 else f"{t:g}" for t in picked])
        if axis.log:
            low, high = np.log10(axis.ends or (min(ticks), max(ticks)))
            pad = max(0.06 * (high - low), 0.05)
            layout["range"] = [round(float(low - pad), 4), round(float(high + pad), 4)]
    return layout


def _ones_twos_fives(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten from just below `low` to just above `high`.

    >>> _ones_twos_fives(0.4, 3.2)
    [0.5, 1.0, 2.0]
    """
    powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    return [v for power in powers for v in (float(f"{m}e{power}") for m in (1, 2, 5)) if low * 0.95 <= v <= high * 1.05]


def _spread(ticks: list[float]) -> list[float]:
    """At most `MAX_TICKS` of the ticks, the ends among them."""
    if len(ticks) <= MAX_TICKS:
        return ticks
    return [ticks[round(i * (len(ticks) - 1) / (MAX_TICKS - 1))] for i in range(MAX_TICKS)]
