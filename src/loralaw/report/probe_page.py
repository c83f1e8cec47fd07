"""The page of a probe: what one adapter does in each layer of its base model, as a heat map and in numbers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from loralaw.errors import InputError
from loralaw.report.cells import TableCell
from loralaw.report.html_page import render_page
from loralaw.report.layer_grid import LayerGrid, layer_grid
from loralaw.report.layer_measures import LayerMeasure, measures_in
from loralaw.report.plots import Figure, heat_map
from loralaw.report.wording import ABSENT, counted, significant, whole
from loralaw.store import write_text

NEEDED = ("adapter", "n_tokens", "n_sequences", "layers", "means", "skipped")
_KINDS: dict[str, Any] = {
    "n_tokens": Integral,
    "n_sequences": Integral,
    "layers": list | tuple,
    "means": Mapping,
    "skipped": Mapping,
    "estimators": list | tuple | None,
    "versions": Mapping | None,
}


@dataclass(frozen=True)
class MeanRow:
    """One measure over all layers, as the page shows it."""

    title: str
    mean: str
    stderr: str
    low: str
    high: str


def write_heat_map(probe: Mapping[str, Any], path: Path) -> Path:
    """Write what a probe measured as one HTML file: a heat map by layer and module type, and every number.

    Args:
        probe: what `loralaw.probe(...)` found, as its `as_dict()` gives it or as read from the JSON file of
            `loralaw probe --json`. A value that could not be measured is None or nan.
        path: where to.

    Returns:
        The path written.

    Raises:
        InputError: not the numbers of a probe.
        StorageError: the disk refused; an older file is left as it was.
    """
    _check(probe)
    write_text(Path(path), render(probe))
    return Path(path)


def render(probe: Mapping[str, Any]) -> str:
    """The page as text."""
    layers: list[Mapping[str, Any]] = list(probe["layers"])
    grid = layer_grid(str(layer["layer"]) for layer in layers)
    measures = measures_in(str(name) for layer in layers for name in layer)
    maps = {m.name: figure for m in measures if (figure := _map(grid, layers, m)) is not None}
    return render_page(
        "probe.html.j2",
        {"maps": maps},
        adapter=str(probe["adapter"]),
        subtitle=_subtitle(probe),
        lead=_lead(probe, layers, measures),
        mapped=[m for m in measures if m.name in maps],
        n_shared=len(layers) - len(set(grid.places.values())),
        means=[_mean_row(probe["means"], layers, m) for m in measures],
        measures=measures,
        rows=[_table_row(layer, measures) for layer in layers],
        skipped=[(str(layer), str(reason)) for layer, reason in probe["skipped"].items()],
        n_sequences=int(probe["n_sequences"]),
        made_with=_made_with(probe),
        command=probe.get("command"),
    )


def _check(probe: Any) -> None:
    """Refuse what has not the form of a probe's result; each number is checked where it is read."""
    if not isinstance(probe, Mapping):
        raise _no_probe(f"it is a {type(probe).__name__}")
    if missing := [name for name in NEEDED if name not in probe]:
        raise _no_probe(f"it lacks {', '.join(missing)}")
    for name, kind in _KINDS.items():
        if not isinstance(probe.get(name), kind):
            raise _no_probe(f"its {name} is of the type {type(probe.get(name)).__name__}")
    for layer in probe["layers"]:
        if not isinstance(layer, Mapping) or "layer" not in layer:
            raise _no_probe("one of its layers has no name")


def _no_probe(why: str) -> InputError:
    return InputError(
        f"this is not the result of a probe: {why}. Give the as_dict() of what loralaw.probe returns, or the file that "
        "loralaw probe --json writes"
    )


def _subtitle(probe: Mapping[str, Any]) -> str:
    """`on meta-llama/Llama-3.2-1B · 112 adapted layers · 8,192 tokens of 64 rows`."""
    text = f"{counted(int(probe['n_tokens']), 'token')} of {counted(int(probe['n_sequences']), 'row')}"
    parts = [counted(len(probe["layers"]), "adapted layer"), text]
    return " · ".join([f"on {base}", *parts] if (base := probe.get("base_model")) else parts)


def _lead(probe: Mapping[str, Any], layers: list[Mapping[str, Any]], measures: list[LayerMeasure]) -> str:
    """The first measure in words: its mean, and the layers where it is highest and lowest."""
    for measure in measures:
        if (mean := _number(probe["means"], measure.name)) is None:
            continue
        error = _plus_minus(_number(probe["means"], measure.stderr_name))
        said = f"{measure.label}: {significant(mean)}{error} {measure.unit}".rstrip()
        said = _capital(f"{said}, mean over {counted(len(layers), 'layer')}.")
        values = [(v, str(layer["layer"])) for layer in layers if (v := _number(layer, measure.name)) is not None]
        (low, lowest), (high, highest) = min(values, default=(0.0, "")), max(values, default=(0.0, ""))
        if low == high:
            return said
        return f"{said} It is highest in {highest} ({significant(high)}) and lowest in {lowest} ({significant(low)})."
    return ""


def _map(grid: LayerGrid, layers: list[Mapping[str, Any]], measure: LayerMeasure) -> Figure | None:
    """The heat map of a measure, layers that share a place averaged; None where no layer has a value."""
    numbers = [(str(layer["layer"]), _number(layer, measure.name)) for layer in layers]
    table = grid.means((name, value) for name, value in numbers if value is not None and math.isfinite(value))
    values = [value for row in table for value in row if value is not None]
    return heat_map(grid.rows, grid.columns, table, measure.unit, (min(values), max(values))) if values else None


def _mean_row(means: Mapping[str, Any], layers: list[Mapping[str, Any]], measure: LayerMeasure) -> MeanRow:
    values = [value for layer in layers if (value := _number(layer, measure.name)) is not None]
    return MeanRow(
        title=measure.title,
        mean=significant(_number(means, measure.name)),
        stderr=significant(_number(means, measure.stderr_name), 2),
        low=significant(min(values, default=None)),
        high=significant(max(values, default=None)),
    )


def _table_row(layer: Mapping[str, Any], measures: list[LayerMeasure]) -> tuple[str, list[TableCell]]:
    n_tokens = _number(layer, "n_tokens")
    count = None if n_tokens is None or math.isinf(n_tokens) else round(n_tokens)
    cells = [TableCell(whole(count), "" if count is None else str(count), True)]
    for measure in measures:
        value = _number(layer, measure.name)
        text = (
            f"{significant(value)}{_plus_minus(_number(layer, measure.stderr_name))}" if value is not None else ABSENT
        )
        cells.append(TableCell(text, "" if value is None else f"{value:.6g}".replace("inf", "Infinity"), True))
    return str(layer["layer"]), cells


def _made_with(probe: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("estimators", ", ".join(map(str, probe.get("estimators") or [])))]
    rows += [(str(name), str(version)) for name, version in (probe.get("versions") or {}).items()]
    return [(name, value) for name, value in rows if value]


def _number(row: Mapping[str, Any], name: str) -> float | None:
    """A value of a row; nan is as absent as None."""
    value = row.get(name)
    try:
        number = math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        raise _no_probe(f"{name} of {row.get('layer', 'the means')} is {value!r:.60}, no number") from None
    return None if math.isnan(number) else number


def _plus_minus(error: float | None) -> str:
    return "" if error is None else f" ± {significant(error, 2)}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
