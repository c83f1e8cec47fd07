"""The figure of the theory's pages: lines, the row scales that matter marked on them, and points seen beside them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from loralaw.report.plots import Axis, Figure, colour, panel_layout, rounded
from loralaw.report.wording import plot_text, significant

DASHES = ("solid", "dash", "dot", "dashdot")
"""One a line beside its colour, so that print and colour-blind readers can tell lines apart."""

MARKS = {
    "best": ("best α", "star"),
    "half": ("half right", "x"),
    "one": ("α = 1", "square"),
    "zero": ("α = 0", "circle"),
}
"""What can be marked on a line: its name and its symbol."""

HEIGHT = 440


@dataclass(frozen=True)
class Seen:
    """What was simulated or measured at some places of a line, with standard errors over draws."""

    x: list[float]
    y: list[float]
    stderr: list[float]
    n_draws: int


@dataclass(frozen=True)
class Line:
    """A line of the theory; what is not finite leaves a gap."""

    label: str
    x: list[float]
    y: list[float]
    marks: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Places to mark, by their key in `MARKS`."""
    seen: Seen | None = None


@dataclass(frozen=True)
class Key:
    """An entry of a legend: what it means, the token of its colour, and its shape."""

    label: str
    paint: str
    shape: str


def theory_plot(x: Axis, y: Axis, lines: Sequence[Line], guides: Sequence[float] = ()) -> Figure:
    """Lines, points with error bars, marks, and a dotted line at each guide."""
    traces = [_line(i, line) for i, line in enumerate(lines)]
    traces += [_points(i, line.label, line.seen) for i, line in enumerate(lines) if line.seen is not None]
    traces += [_marks(kind, lines) for kind in MARKS if any(kind in line.marks for line in lines)]
    layout = panel_layout(x, y)
    layout["height"] = HEIGHT
    layout["shapes"] = [_guide(place) for place in guides]
    return {"data": traces, "layout": layout}


def keys(lines: Sequence[Line], seen: str) -> list[Key]:
    """The legend of a plot; `seen` says what its points are."""
    found = [Key(line.label, colour(i)[1:], DASHES[i % len(DASHES)]) for i, line in enumerate(lines)]
    if any(line.seen is not None for line in lines):
        found.append(Key(f"{seen}, ± 1 s.e.", "ink", "points"))
    marked = {kind for line in lines for kind in line.marks}
    return found + [Key(name, "ink", shape) for kind, (name, shape) in MARKS.items() if kind in marked]


def _line(number: int, line: Line) -> Figure:
    name = plot_text(line.label)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [rounded(x) for x in line.x],
        "y": [rounded(y) if math.isfinite(y) else None for y in line.y],
        "line": {"width": 2, "color": colour(number), "dash": DASHES[number % len(DASHES)]},
        "text": [f"{name}<br>{significant(x)}: {significant(y)}" for x, y in zip(line.x, line.y, strict=True)],
        "hoverinfo": "text",
    }


def _points(number: int, label: str, seen: Seen) -> Figure:
    name = plot_text(label)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [rounded(x) for x in seen.x],
        "y": [rounded(y) for y in seen.y],
        "error_y": {
            "array": [rounded(e) for e in seen.stderr],
            "color": colour(number),
            "thickness": 1.5,
            "width": 0,
        },
        "marker": {"symbol": "circle", "size": 6, "color": colour(number)},
        "text": [
            f"{name}<br>{significant(x)}: {significant(y, 4)} ± {significant(e, 2)}"
            for x, y, e in zip(seen.x, seen.y, seen.stderr, strict=True)
        ],
        "hoverinfo": "text",
    }


def _marks(kind: str, lines: Sequence[Line]) -> Figure:
    """One kind of mark on all lines: filled with the page so that what lies beneath does not shine through."""
    name, shape = MARKS[kind]
    marked = [(i, line.label, *line.marks[kind]) for i, line in enumerate(lines) if kind in line.marks]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [rounded(x) for _, _, x, _ in marked],
        "y": [rounded(y) for _, _, _, y in marked],
        "marker": {
            "symbol": shape,
            "size": 14 if shape == "star" else 10,
            "color": [colour(i) if shape in ("star", "x") else "@surface" for i, *_ in marked],
            "line": {
                "width": 1 if shape in ("star", "x") else 2,
                "color": ["@surface" if shape in ("star", "x") else colour(i) for i, *_ in marked],
            },
        },
        "text": [f"{plot_text(label)}, {name}<br>{significant(x)}: {significant(y)}" for _, label, x, y in marked],
        "hoverinfo": "text",
    }


def _guide(place: float) -> Figure:
    return {
        "type": "line",
        "layer": "below",
        "yref": "paper",
        "x0": place,
        "x1": place,
        "y0": 0,
        "y1": 1,
        "line": {"color": "@axis", "width": 1, "dash": "dot"},
    }
