"""Inside the adapter: the per-layer measures of the records, averaged over cells, by base model and rank."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from loralaw.report.layer_grid import LayerGrid, Place, layer_grid
from loralaw.report.layer_measures import LayerMeasure, measures_in
from loralaw.report.plots import Axis, heat_map, line_panel

ALL_RANKS = "all"


@dataclass
class Mean:
    """A running mean."""

    total: float = 0.0
    n: int = 0

    def add(self, value: float) -> None:
        self.total, self.n = self.total + value, self.n + 1

    @property
    def value(self) -> float | None:
        return self.total / self.n if self.n else None


@dataclass
class BaseModelLayers:
    """All layer measures of one base model: means by measure, rank and place, over settings that have every rank."""

    base_model: str
    ranks: list[int]
    n_cells: int
    grid: LayerGrid
    means: dict[tuple[str, str, Place], Mean] = field(default_factory=lambda: defaultdict(Mean))

    def value(self, measure: str, rank: str, place: Place) -> float | None:
        mean = self.means.get((measure, rank, place))
        return mean.value if mean else None

    def measured(self) -> list[str]:
        """The names of the measures that have a value; older records have fewer."""
        return list(dict.fromkeys(key[0] for key in self.means))


def layers_by_base_model(records: list[dict[str, Any]], order: list[str]) -> list[BaseModelLayers]:
    """One entry a base model that has any layer measure, in the order given."""
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        if record["status"] == "finished" and record.get("layers"):
            grouped[record["cell"]["base_model"]].append(record)
    return [_average(name, grouped[name]) for name in order if name in grouped]


def inside_figures(base: BaseModelLayers) -> dict[str, dict[str, Any]]:
    """By measure: `map`, a heat map of all ranks, `z`, its values by rank, and `along`, each module type by rank."""
    return {measure.name: _figures(base, measure) for measure in measures_in(base.measured())}


def _figures(base: BaseModelLayers, measure: LayerMeasure) -> dict[str, Any]:
    rows, columns = base.grid.rows, base.grid.columns
    tables = {
        rank: [[base.value(measure.name, rank, (row, column)) for column in columns] for row in rows]
        for rank in (ALL_RANKS, *map(str, base.ranks))
    }
    values = [v for table in tables.values() for row in table for v in row if v is not None]
    maps = {
        rank: heat_map(rows, columns, table, measure.unit, (min(values), max(values))) for rank, table in tables.items()
    }
    figures = {"map": maps[ALL_RANKS], "z": {rank: figure["data"][0]["z"] for rank, figure in maps.items()}}
    if len(base.ranks) > 1:
        ranks = [float(rank) for rank in base.ranks]
        figures["along"] = line_panel(
            Axis("Rank", ticks=ranks, log=True),
            Axis(measure.title),
            [(column, ranks, _along(base, measure.name, column)) for column in columns],
        )
    return figures


def _average(name: str, records: list[dict[str, Any]]) -> BaseModelLayers:
    ranks = sorted({int(r["cell"]["rank"]) for r in records})
    of_setting: dict[str, set[int]] = defaultdict(set)
    for record in records:
        of_setting[_setting(record)].add(int(record["cell"]["rank"]))
    complete = {setting for setting, have in of_setting.items() if len(have) == len(ranks)}
    used = [r for r in records if _setting(r) in complete] or records
    grid = layer_grid(str(layer["layer"]) for record in used for layer in record["layers"])
    base = BaseModelLayers(name, ranks, len(used), grid)
    for record in used:
        for layer in record["layers"]:
            place = grid.places[str(layer["layer"])]
            for measure in measures_in(layer):
                if (value := layer.get(measure.name)) is not None and math.isfinite(value):
                    for rank in (ALL_RANKS, str(record["cell"]["rank"])):
                        base.means[(measure.name, rank, place)].add(float(value))
    return base


def _setting(record: dict[str, Any]) -> str:
    cell = record["cell"]
    return repr((cell["method"], cell["n_train_examples"], cell["task"], cell.get("template")))


def _along(base: BaseModelLayers, measure: str, column: str) -> list[float | None]:
    return [_mean(base.value(measure, str(rank), (row, column)) for row in base.grid.rows) for rank in base.ranks]


def _mean(values: Iterable[float | None]) -> float | None:
    present = [v for v in values if v is not None]
    return sum(present) / len(present) if present else None
