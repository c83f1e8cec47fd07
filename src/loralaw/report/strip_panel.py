"""A figure of distributions: one strip a name, its ends and quartiles as lines, its median as a mark."""

from loralaw.report.plots import MAX_ROW_LABEL, Axis, Figure, name_axis, panel_layout, rounded
from loralaw.report.wording import plot_text, significant

STRIP_HEIGHT = 30
ENDS_AND_AXIS = 96
"""Pixels beside those of the strips."""

Quantiles = tuple[float, float, float, float, float]
"""At 5, 25, 50, 75 and 95 %."""


def strip_panel(title: str, strips: list[tuple[str, Quantiles]], start: float) -> Figure:
    """A strip a name from 5 to 95 %, thick from 25 to 75 %; the dotted line is where all began."""
    names = [plot_text(name) for name, _ in strips]
    spoken = [
        f"{name}<br>5 % to 95 %: {significant(q[0], 4)} to {significant(q[4], 4)}"
        f"<br>25 % to 75 %: {significant(q[1], 4)} to {significant(q[3], 4)}<br>median: {significant(q[2], 4)}"
        for name, (_, q) in zip(names, strips, strict=True)
    ]
    layout = panel_layout(Axis(title), Axis(""))
    layout["yaxis"].update(name_axis([name for name, _ in strips], MAX_ROW_LABEL), autorange="reversed")
    ends = [start, *(end for _, q in strips for end in (q[0], q[4]))]
    pad = 0.05 * (max(ends) - min(ends)) or 0.01
    layout["xaxis"]["range"] = [rounded(min(ends) - pad), rounded(max(ends) + pad)]
    layout["height"] = ENDS_AND_AXIS + STRIP_HEIGHT * len(strips)
    layout["shapes"] = [
        {
            "type": "line",
            "layer": "below",
            "yref": "paper",
            "x0": start,
            "x1": start,
            "y0": 0,
            "y1": 1,
            "line": {"color": "@ink", "width": 1, "dash": "dot"},
        }
    ]
    medians: Figure = {
        "type": "scatter",
        "mode": "markers",
        "x": [rounded(q[2]) for _, q in strips],
        "y": names,
        "marker": {"symbol": "line-ns-open", "size": 14, "color": "@ink", "line": {"width": 2.5, "color": "@ink"}},
        "text": spoken,
        "hoverinfo": "text",
        "name": "median",
    }
    return {"data": [_lines(names, strips, 0, 4, 2), _lines(names, strips, 1, 3, 8), medians], "layout": layout}


def _lines(names: list[str], strips: list[tuple[str, Quantiles]], low: int, high: int, width: int) -> Figure:
    """From one quantile to another, all strips in one trace; a gap ends each."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [x for _, q in strips for x in (rounded(q[low]), rounded(q[high]), None)],
        "y": [y for name in names for y in (name, name, None)],
        "line": {"width": width, "color": "@series-1"},
        "hoverinfo": "skip",
    }
