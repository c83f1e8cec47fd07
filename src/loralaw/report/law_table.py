"""The laws of a study as a table, one row a metric and axis."""

import math

import polars as pl

from loralaw.laws import LawFit, describe

SCHEMA: dict[str, pl.DataType] = {
    "metric": pl.String(),
    "axis": pl.String(),
    "status": pl.String(),
    "exponent": pl.Float64(),
    "exponent_low": pl.Float64(),
    "exponent_high": pl.Float64(),
    "floor": pl.Float64(),
    "floor_low": pl.Float64(),
    "floor_high": pl.Float64(),
    "gain_of_doubling": pl.Float64(),
    "gain_of_doubling_low": pl.Float64(),
    "gain_of_doubling_high": pl.Float64(),
    "p_trend": pl.Float64(),
    "n_cells": pl.Int64(),
    "sentence": pl.String(),
}
LEVEL = 0.95


def law_table(fits: list[LawFit]) -> pl.DataFrame:
    """One row a fit; a number that the fit does not claim is null.

    Args:
        fits: what `loralaw.laws.fit_all` returned.

    Returns:
        A frame with the columns of `SCHEMA`. Exponents are dimensionless, floors and gains in the metric's unit,
        intervals at 95 % (an end that the data leave open is 0 or infinite); the gain is of one more doubling from the
        largest level.
    """
    return pl.DataFrame([_row(fit) for fit in fits], schema=SCHEMA)


def _row(fit: LawFit) -> dict[str, object]:
    row: dict[str, object] = {
        "metric": fit.metric,
        "axis": fit.axis,
        "status": str(fit.status),
        "p_trend": None if math.isnan(fit.p_trend) else fit.p_trend,
        "n_cells": fit.n_cells,
        "sentence": describe(fit),
    }
    if fit.has_law:
        for name in ("exponent", "floor"):
            low, high = fit.interval(name, LEVEL)
            row |= {name: fit.params[name], f"{name}_low": low, f"{name}_high": high}
        gain, low, high = fit.gain_of_doubling(float(max(fit.levels)), LEVEL)
        row |= {"gain_of_doubling": gain, "gain_of_doubling_low": low, "gain_of_doubling_high": high}
    return row
