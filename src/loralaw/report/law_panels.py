"""The laws section: one panel an axis for every metric, seen as measured or with the settings' averages removed."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from loralaw.laws import AXES, METRICS, Axis, LawFit, Metric, with_interval
from loralaw.laws import fit as fit_law
from loralaw.laws.contexts import comparable_rows, context_codes, context_columns
from loralaw.report import plots
from loralaw.report.cells import finished, shown
from loralaw.report.plots import Figure, law_panel, rounded
from loralaw.report.wording import ABSENT, significant, size

VIEWS = {"levelled": "settings' averages removed", "measured": "as measured, one line a setting"}
"""Settings differ by far more than an axis changes within each of them, so a law shows only once they are levelled."""

DODGE = 0.022
"""Series lie this fraction of the axis beside one another, so that they do not hide each other."""

N_CURVE_POINTS = 30
FEWEST_LEVELS_HELD_OUT = 4
"""A law needs three without the one that is held out."""


@dataclass(frozen=True)
class Series:
    """Cells that share a colour and a symbol."""

    number: int
    base_model: str
    method: str
    label: str


@dataclass(frozen=True)
class HeldOut:
    """The largest level, and what the law of the smaller ones says of it: median and 95 % interval."""

    level: float
    mean: float
    predicted: tuple[float, float, float]

    @property
    def sentence(self) -> str:
        said = with_interval(*self.predicted)
        mean = significant(self.mean, 4)
        return f"Held out: the law of the smaller sizes says {said} at {size(self.level)}; the cells' mean is {mean}."


def held_out(table: pl.DataFrame, fit: LawFit) -> HeldOut | None:
    """The same settings without their largest level; None where there is no law with it or without it."""
    if not fit.has_law or len(fit.levels) < FEWEST_LEVELS_HELD_OUT:
        return None
    last = float(fit.levels[-1])
    smaller = _comparable(_usable(table, fit), fit).filter(pl.col(fit.axis) < 0.999 * last)
    law = fit_law(smaller, metric=fit.metric, axis=fit.axis)
    if not law.has_law:
        return None
    middle, low, high = (ends[0] for ends in _at(law, [last]))
    return HeldOut(last, float(fit.means[-1]), (middle, low, high))


def series_of(table: pl.DataFrame) -> list[Series]:
    """One series a base model and method, smallest base model first."""
    sizes = table.group_by("base_model", "method").agg(pl.col("n_params_total").max())
    pairs = sizes.sort("n_params_total", "base_model", "method").select("base_model", "method").iter_rows()
    several = table["method"].n_unique() > 1
    return [Series(i, b, m, f"{b} · {m}" if several else b) for i, (b, m) in enumerate(pairs)]


def law_figures(
    table: pl.DataFrame, fits: list[LawFit], checks: list[HeldOut | None]
) -> dict[str, dict[str, dict[str, Figure]]]:
    """Figures by metric, axis and view; a check a fit."""
    figures: dict[str, dict[str, dict[str, Figure]]] = {}
    series, numbers = series_of(table), shown(table).select("key").with_row_index("cell_number")
    for fit, check in zip(fits, checks, strict=True):
        cells = _usable(table, fit).join(numbers, on="key", how="left", maintain_order="left")
        if cells.height and len(fit.levels) > 1:
            figures.setdefault(fit.metric, {})[fit.axis] = {
                view: _panel(cells, fit, check, series, levelled=view == "levelled") for view in VIEWS
            }
    return figures


def level_rows(fit: LawFit) -> list[tuple[str, str, str]]:
    """The numbers behind a panel: level, measured mean, what the law says there with its interval."""
    rows = []
    for level, mean in zip(fit.levels, fit.means, strict=True):
        law = ABSENT
        if fit.can_predict:
            middle, low, high = _at(fit, [float(level)])
            law = f"{significant(middle[0], 4)} [{significant(low[0], 4)}, {significant(high[0], 4)}]"
        rows.append((size(float(level)), significant(float(mean), 4), law))
    return rows


def _usable(table: pl.DataFrame, fit: LawFit) -> pl.DataFrame:
    return finished(table).filter(pl.col(fit.metric).is_finite() & pl.col(fit.axis).is_not_null())


def _panel(cells: pl.DataFrame, fit: LawFit, check: HeldOut | None, series: list[Series], levelled: bool) -> Figure:
    context = context_columns(cells, [fit.axis])
    drawn = _levelled(cells, fit) if levelled else cells.with_columns(drawn=pl.col(fit.metric))
    levels = [float(level) for level in fit.levels]
    span = float(np.log(levels[-1] / levels[0])) if fit.axis != "n_params_total" else 0.0
    points = []
    for one in series:
        mine = drawn.filter((pl.col("base_model") == one.base_model) & (pl.col("method") == one.method))
        if mine.height:
            points.append(_points(mine, one, fit.axis, np.exp((one.number - (len(series) - 1) / 2) * DODGE * span)))
    return law_panel(
        plots.Axis(title_of(AXES[fit.axis]), ticks=levels, log=True),
        plots.Axis(title_of(METRICS[fit.metric])),
        points,
        {} if levelled else _setting_lines(drawn, fit.axis, context, series),
        [(a, rounded(float(b))) for a, b in zip(levels, fit.means, strict=True)] if levelled else [],
        _curve(fit, levels) if levelled and fit.can_predict else None,
        (check.level, check.predicted) if levelled and check else None,
    )


def _levelled(cells: pl.DataFrame, fit: LawFit) -> pl.DataFrame:
    """The cells that the law was fitted to, shifted so that all of its contexts have the same average."""
    shift = pl.col(fit.metric).mean() - pl.col(fit.metric).mean().over("context")
    return _comparable(cells, fit).with_columns(drawn=pl.col(fit.metric) + shift)


def _comparable(cells: pl.DataFrame, fit: LawFit) -> pl.DataFrame:
    """The cells that the law was fitted to."""
    coded = cells.with_columns(
        context=pl.Series(context_codes(cells, context_columns(cells, [fit.axis]))),
        level=pl.Series(np.unique(cells[fit.axis], return_inverse=True)[1]),
        seed_code=pl.Series(np.unique(cells["seed"].fill_null(-1), return_inverse=True)[1]),
    )
    return coded.filter(comparable_rows(*(coded[c].to_numpy() for c in ("context", "level", "seed_code"))))


def _points(cells: pl.DataFrame, one: Series, axis: str, beside: float) -> plots.Points:
    """Cells of one series, `beside` times to the right."""
    picked = cells.filter(pl.col("cell_number").is_not_null())
    return plots.Points(
        label=one.label,
        series=one.number,
        x=[rounded(v * beside) for v in picked[axis]],
        y=[rounded(v) for v in picked["drawn"]],
        cells=picked["cell_number"].to_list(),
    )


def _setting_lines(
    cells: pl.DataFrame, axis: str, context: list[str], series: list[Series]
) -> dict[str, list[plots.Polyline]]:
    """By colour, one line a context through its means over seeds; a line from base model to base model is grey."""
    colours = {(one.base_model, one.method): plots.colour(one.number) for one in series}
    lines: dict[tuple[str, str], plots.Polyline] = {}
    means = cells.group_by(*context, axis).agg(
        pl.col("drawn").mean(), pl.col("base_model", "method").first().name.prefix("of_")
    )
    for row in means.sort(*context, axis).iter_rows(named=True):
        paint = colours[row["of_base_model"], row["of_method"]] if "base_model" in context else "@axis"
        setting = paint, repr([row[name] for name in context])
        lines.setdefault(setting, []).append((float(row[axis]), rounded(row["drawn"])))
    by_colour: dict[str, list[plots.Polyline]] = {}
    for (paint, _), line in lines.items():
        if len(line) > 1:
            by_colour.setdefault(paint, []).append(line)
    return by_colour


def _curve(fit: LawFit, levels: list[float]) -> plots.Curve:
    x = [float(v) for v in np.geomspace(levels[0], levels[-1], N_CURVE_POINTS)]  # rounded, the last may be outside
    return plots.Curve(list(map(rounded, x)), *_at(fit, x), label="law" if fit.has_law else "mean")


def _at(fit: LawFit, x: list[float]) -> tuple[list[float], list[float], list[float]]:
    """The law's median and interval."""
    low, high = fit.predict_interval(np.asarray(x), plots.LAW_LEVEL)
    middle, low, high = (np.atleast_1d(part) for part in (fit.predict(np.asarray(x)), low, high))
    return [rounded(v) for v in middle], [rounded(v) for v in low], [rounded(v) for v in high]


def title_of(quantity: Metric | Axis) -> str:
    """`Cross-entropy (nats)`; a unit that the label names already is left out."""
    label = quantity.label[:1].upper() + quantity.label[1:]
    return f"{label} ({quantity.unit})" if quantity.unit and quantity.unit not in label else label
