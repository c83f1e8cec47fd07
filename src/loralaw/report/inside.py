"""Inside the adapter: the per-layer measures of the records, averaged over cells, by base model and rank."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from loralaw.report.plots import Axis, Figure, heat_map, line_panel

ESTIMATORS = {
    "miub_nats": ("MIUB, channel bound", "nats"),
    "jsd_nats": ("Jensen-Shannon divergence", "nats"),
    "norm_ratio": ("norm ratio ‖u‖/‖z‖", ""),
}
"""Per-layer measures of a record: label and unit."""

ALL_RANKS = "all"
Place = tuple[str, str]


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
    """All layer measures of one base model: means by estimator, rank and place, over settings that have every rank."""

    base_model: str
    ranks: list[int]
    n_cells: int
    rows: list[str]
    columns: list[str]
    means: dict[tuple[str, str, Place], Mean] = field(default_factory=lambda: defaultdict(Mean))

    def value(self, estimator: str, rank: str, place: Place) -> float | None:
        mean = self.means.get((estimator, rank, place))
        return mean.value if mean else None

    def estimators(self) -> list[str]:
        measured = {key[0] for key in self.means}
        return [name for name in ESTIMATORS if name in measured]


def place_of(layer: str) -> Place:
    """(layer number, module type) of a module's name.

    >>> place_of("model.layers.3.self_attn.q_proj"), place_of("lm_head")
    (('3', 'q_proj'), ('–', 'lm_head'))
    """
    number = re.search(r"(?:^|\.)(\d+)(?:\.|$)", layer)
    return (number[1] if number else "–"), layer.rsplit(".", 1)[-1]


def layers_by_base_model(records: list[dict[str, Any]], order: list[str]) -> list[BaseModelLayers]:
    """One entry a base model that has any layer measure, in the order given."""
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        if record["status"] == "finished" and record.get("layers"):
            grouped[record["cell"]["base_model"]].append(record)
    return [_average(name, grouped[name]) for name in order if name in grouped]


def inside_figures(base: BaseModelLayers) -> dict[str, dict[str, Figure]]:
    """Figures by estimator: a heat map for each rank and for all, and `along`, the mean of each module type by rank."""
    figures: dict[str, dict[str, Figure]] = {}
    for estimator in base.estimators():
        label, unit = ESTIMATORS[estimator]
        ranks = [ALL_RANKS, *map(str, base.ranks)]
        tables = {
            rank: [[_rounded(base.value(estimator, rank, (r, c))) for c in base.columns] for r in base.rows]
            for rank in ranks
        }
        values = [v for table in tables.values() for row in table for v in row if v is not None]
        span = (min(values), max(values)) if values else (0.0, 1.0)
        figures[estimator] = {rank: heat_map(base.rows, base.columns, tables[rank], unit, span) for rank in ranks}
        if len(base.ranks) > 1:
            figures[estimator]["along"] = line_panel(
                Axis("Rank", ticks=[float(r) for r in base.ranks], log=True),
                Axis(f"{label} ({unit})" if unit else label),
                [(c, [float(r) for r in base.ranks], _along(base, estimator, c)) for c in base.columns],
            )
    return figures


def _average(name: str, records: list[dict[str, Any]]) -> BaseModelLayers:
    ranks = sorted({int(r["cell"]["rank"]) for r in records})
    of_setting: dict[str, set[int]] = defaultdict(set)
    for record in records:
        of_setting[_setting(record)].add(int(record["cell"]["rank"]))
    complete = {setting for setting, have in of_setting.items() if len(have) == len(ranks)}
    used = [r for r in records if _setting(r) in complete] or records
    places = [place_of(str(layer["layer"])) for record in used for layer in record["layers"]]
    rows, columns = sorted({p[0] for p in places}, key=_number), list(dict.fromkeys(p[1] for p in places))
    base = BaseModelLayers(name, ranks, len(used), rows, columns)
    for record in used:
        for layer in record["layers"]:
            place = place_of(str(layer["layer"]))
            for estimator in ESTIMATORS:
                if (value := layer.get(estimator)) is not None:
                    for rank in (ALL_RANKS, str(record["cell"]["rank"])):
                        base.means[(estimator, rank, place)].add(float(value))
    return base


def _setting(record: dict[str, Any]) -> str:
    cell = record["cell"]
    return repr((cell["method"], cell["n_train_examples"], cell.get("template")))


def _along(base: BaseModelLayers, estimator: str, column: str) -> list[float | None]:
    return [
        _rounded(_mean(base.value(estimator, str(rank), (row, column)) for row in base.rows)) for rank in base.ranks
    ]


def _mean(values: Iterable[float | None]) -> float | None:
    present = [v for v in values if v is not None]
    return sum(present) / len(present) if present else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def _number(row: str) -> tuple[int, str]:
    return (int(row), "") if row.isdigit() else (10**9, row)
