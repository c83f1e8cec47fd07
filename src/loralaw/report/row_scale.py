"""The row scale α of the cells: groups of cells that are averaged, and what is drawn of each. No torch."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from loralaw.report.layer_grid import LayerGrid, layer_grid
from loralaw.report.layer_measures import LayerMeasure
from loralaw.report.plots import Axis, Figure, heat_map, line_panel
from loralaw.report.strip_panel import Quantiles, strip_panel
from loralaw.report.wording import counted, significant, whole

START = 1.0
"""α of a model that equals its base model: what changes are measured from."""

MEAN_CHANGE = LayerMeasure(
    "mean_change",
    "mean change α − 1",
    "",
    "Above 0 the rows pass on more of the frozen output than the base model does, below 0 less. It is a mean over "
    "rows: changes up and down cancel.",
)
RMS_CHANGE = LayerMeasure(
    "rms_change", "rms change", "", "Root mean square of α − 1 over rows: how far they moved, up or down."
)
OFF_PERCENT = LayerMeasure(
    "off_percent",
    "rows off",
    "%",
    "Rows with |α| < 0.05, in per cent of the rows: they pass on less than a twentieth of their frozen output.",
)
SCALE_MEASURES = (MEAN_CHANGE, RMS_CHANGE, OFF_PERCENT)

DIVERGING = [[0, "@change-low"], [0.5, "@change-none"], [1, "@change-high"]]
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
KNOTS = (0.0, *QUANTILES, 1.0)
N_DRAWS = 200
"""Points at which the distribution of a layer is read from its quantiles before layers are pooled."""

Layer = dict[str, Any]


@dataclass(frozen=True)
class RowScales:
    """Finished cells of one base model and method, with the row scales of their layers."""

    label: str
    cells: list[dict[str, Any]]
    """Their records."""
    grid: LayerGrid

    def layers(self) -> Iterator[Layer]:
        """All layers of all cells."""
        return (layer for cell in self.cells for layer in layers_of(cell))

    def table(self, measure: LayerMeasure) -> list[list[float | None]]:
        """Means over cells by block and module type; of the rms change the root mean square."""
        power = 2 if measure is RMS_CHANGE else 1
        values = ((str(layer["layer"]), value_of(layer, measure)) for layer in self.layers())
        means = self.grid.means((name, value**power) for name, value in values if math.isfinite(value))
        return [[None if value is None else value ** (1 / power) for value in row] for row in means]


def value_of(layer: Layer, measure: LayerMeasure) -> float:
    """A measure of one layer."""
    if measure is MEAN_CHANGE:
        return float(layer["mean"]) - START
    if measure is OFF_PERCENT:
        return 100 * int(layer["n_off"]) / int(layer["n_rows"])
    return float(layer["rms_change"])


def layers_of(record: dict[str, Any]) -> list[Layer]:
    """The row scales of a record; none for other methods and in records of older versions."""
    return list((record.get("row_scale") or {}).get("layers") or [])


def row_scales_of(records: list[dict[str, Any]], order: list[str]) -> list[RowScales]:
    """One group a base model and method that has row scales, base models in the order given."""
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        if record["status"] == "finished" and layers_of(record):
            cell = record["cell"]
            grouped[cell["base_model"], json.dumps(cell["method"], sort_keys=True)].append(record)
    methods = [json.loads(method) for method in dict.fromkeys(method for _, method in grouped)]
    return [
        RowScales(
            " · ".join([base_model, *_differences(json.loads(method), methods)]),
            cells,
            layer_grid(str(layer["layer"]) for cell in cells for layer in layers_of(cell)),
        )
        for (base_model, method), cells in sorted(grouped.items(), key=lambda item: order.index(item[0][0]))
    ]


def row_scale_figures(scales: RowScales) -> dict[str, Any]:
    """`maps` by measure, `strips` of the distribution by module type, and `drift`, each module type by step."""
    return {
        "maps": {measure.name: _map(scales, measure) for measure in SCALE_MEASURES},
        "strips": strip_panel("Row scale α", _strips(scales), START),
        "drift": _drift_figure(scales),
    }


def off_rows(scales: RowScales) -> list[str]:
    """Cells of the table of rows that are off: base model, cells, rows, rows off, their share, where most are."""
    n_rows = sum(int(layer["n_rows"]) for layer in scales.layers())
    off: Counter[str] = Counter()
    for layer in scales.layers():
        off[scales.grid.places[str(layer["layer"])][1]] += int(layer["n_off"])
    n_off = off.total()
    most = f"{off.most_common(1)[0][0]} ({whole(off.most_common(1)[0][1])})" if n_off else ""
    return [
        scales.label,
        whole(len(scales.cells)),
        whole(n_rows),
        whole(n_off),
        f"{significant(100 * n_off / n_rows)} %",
        most,
    ]


def drift_note(scales: RowScales) -> str:
    """Which cells the drift is the mean of."""
    drifts = _drifts(scales)
    if not drifts:
        return "No cell of this base model holds the drift of its row scales."
    rest = len(scales.cells) - len(drifts)
    left_out = f"; {counted(rest, 'cell')} with other steps left out" if rest else ""
    steps = counted(int(drifts[0][-1]["step"]), "step")
    return f"Mean over {counted(len(drifts), 'cell')} with {steps}{left_out}. One line a module type."


def _differences(method: dict[str, Any], methods: list[dict[str, Any]]) -> list[str]:
    """The settings of a method in which the methods of the study differ."""
    names = sorted({name for one in methods for name in one if any(m.get(name) != one[name] for m in methods)})
    return [f"{n.removeprefix('row_scale_').replace('_', ' ')} {_setting(method.get(n))}" for n in names]


def _setting(value: Any) -> str:
    if value is None:
        return "as the study"
    return "+".join(value) if isinstance(value, list) else str(value)


def _map(scales: RowScales, measure: LayerMeasure) -> Figure:
    table = scales.table(measure)
    end = max((abs(value) for row in table for value in row if value is not None), default=0.0) or 1.0
    diverges = measure is MEAN_CHANGE
    figure = heat_map(scales.grid.rows, scales.grid.columns, table, measure.unit, (-end if diverges else 0.0, end))
    if diverges:
        figure["data"][0]["colorscale"] = DIVERGING
    return figure


def _strips(scales: RowScales) -> list[tuple[str, Quantiles]]:
    by_column: dict[str, list[Layer]] = defaultdict(list)
    for layer in scales.layers():
        if all(math.isfinite(knot) for knot in _knots(layer)):
            by_column[scales.grid.places[str(layer["layer"])][1]].append(layer)
    return [(column, pooled_quantiles(by_column[column])) for column in scales.grid.columns if column in by_column]


def _knots(layer: Layer) -> list[float]:
    return [layer["min"], *layer["quantiles"], layer["max"]]


def pooled_quantiles(layers: Sequence[Layer]) -> Quantiles:
    """Quantiles over the rows of all layers, each layer's distribution straight between the quantiles it holds."""
    places = (np.arange(N_DRAWS) + 0.5) / N_DRAWS
    draws = np.concatenate([np.interp(places, KNOTS, _knots(layer)) for layer in layers])
    weights = np.repeat([float(layer["n_rows"]) for layer in layers], N_DRAWS)
    order = np.argsort(draws)
    below = np.cumsum(weights[order]) - weights[order] / 2
    five, quarter, half, three_quarters, most = np.interp(QUANTILES, below / weights.sum(), draws[order])
    return float(five), float(quarter), float(half), float(three_quarters), float(most)


def _drifts(scales: RowScales) -> list[list[dict[str, Any]]]:
    """Drifts that have the same steps: those of most cells, of two such the longer."""
    by_steps: dict[tuple[int, ...], list[list[dict[str, Any]]]] = defaultdict(list)
    for cell in scales.cells:
        if drift := cell["row_scale"].get("drift"):
            by_steps[tuple(int(point["step"]) for point in drift)].append(drift)
    return max(by_steps.items(), key=lambda item: (len(item[1]), item[0][-1]))[1] if by_steps else []


def _drift_figure(scales: RowScales) -> Figure | None:
    drifts = _drifts(scales)
    if not drifts:
        return None
    steps = [float(point["step"]) for point in drifts[0]]
    types = list(dict.fromkeys(name for drift in drifts for point in drift for name in point["rms_change"]))
    lines = [(name, steps, [_mean_at(drifts, i, name) for i in range(len(steps))]) for name in types]
    return line_panel(Axis("Step"), Axis("Rms change"), lines)


def _mean_at(drifts: list[list[dict[str, Any]]], point: int, name: str) -> float | None:
    values = [drift[point]["rms_change"].get(name, math.nan) for drift in drifts]
    finite = [float(v) for v in values if v is not None and math.isfinite(v)]
    return sum(finite) / len(finite) if finite else None
