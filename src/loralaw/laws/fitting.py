"""Fit one-axis laws to a table of cells."""

from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loralaw.laws.cells import Cells, read_cells
from loralaw.laws.estimate import end_to_end_change, mean_estimate
from loralaw.laws.law_fit import LawFit, Status
from loralaw.laws.metrics import METRICS, STUDY_AXES, metric_named
from loralaw.laws.power_law import N_PARAMETERS, power_law_posterior
from loralaw.laws.sentences import message_of
from loralaw.laws.trend import Trend, bend_test, n_orders, trend_test

_LARGEST_P_OF_A_LAW = 0.05
_LARGEST_P_OF_A_BEND = 0.01
_WEAK_RATIO = 8.0  # an exponent known to less than this factor is not known


def fit(table: pl.DataFrame, *, metric: str, axis: str) -> LawFit:
    """Fit the law of one metric along one axis: y = floor + amplitude·x^(-exponent).

    Only contexts (settings of the other axes) that were run at every level are compared; the law is that of their mean
    at each (level, seed). Whether there is a law at all is decided first, by permuting cells inside contexts and seeds.

    Args:
        table: One row a cell. `metric` and `axis` are numeric columns. Optional: `seed`; `status`, of which only
            "finished" is used; and the other axes: `base_model`, `method`, `rank`, `n_train_examples`, `template`.
        metric: Column of the metric. Of those in `METRICS` the direction and bound are known.
        axis: Column of the sizes, usually one of `AXES`.

    Returns:
        The fit: a status with the user's sentences, and the law with its intervals where there is one. A null, NaN or
        infinite metric and a null size exclude their row, which is counted.

    Raises:
        TableError: No rows, no such column, a column that is not numeric, a size that is not positive, or no row with
            a value.

    **Source**: ours; see `power_law_posterior` and `trend_test`.

    >>> ranks = [1, 4, 16, 64, 256] * 2
    >>> losses = [2 + rank**-0.5 + 0.001 * (-1) ** i for i, rank in enumerate(ranks)]
    >>> table = pl.DataFrame({"rank": ranks, "cross_entropy": losses, "seed": [0] * 5 + [1] * 5})
    >>> law = fit(table, metric="cross_entropy", axis="rank")
    >>> low, high = law.interval("exponent")
    >>> law.status.value, low < 0.5 < high
    ('law', True)
    """
    known = metric_named(metric)
    cells = read_cells(table, metric, axis)
    levels, number = np.unique(cells.level, return_inverse=True)
    rng = np.random.default_rng(0)  # the same table always gives the same intervals
    several = len(levels) > 1
    trend = trend_test(cells.level, cells.value, cells.block, rng) if several else None
    found = LawFit(
        metric=metric,
        axis=axis,
        status=Status.LAW,
        message="",
        levels=levels,
        means=np.bincount(number, cells.value) / np.bincount(number),
        increasing=trend.increasing if trend else None,
        p_trend=trend.p(known.increasing) if trend else float("nan"),
        p_bend=bend_test(*cells.points()),
        change=end_to_end_change(cells) if several else None,
        constant=None,
        draws=None,
        bound=known.bound,
        n_cells=len(cells.value),
        n_excluded=cells.n_excluded,
        n_without_size=cells.n_without_size,
        n_contexts=cells.n_contexts,
        n_contexts_left_out=cells.n_contexts_left_out,
    )
    found = _with_status(found, cells, trend, known.increasing, rng)
    return replace(found, message=message_of(found))


def fit_all(table: pl.DataFrame) -> list[LawFit]:
    """Every known metric along rank, training examples and model size.

    Args:
        table: As for `fit`.

    Returns:
        One fit for each metric of `METRICS` with a finished value and each of the three axes with two or more levels in
        the table, by axis, then metric.

    Raises:
        TableError: As for `fit`.
    """
    finished = table.filter(pl.col("status").eq_missing("finished")) if "status" in table.columns else table
    axes = [axis for axis in STUDY_AXES if axis in table.columns and table[axis].drop_nulls().n_unique() > 1]
    metrics = [name for name in METRICS if name in table.columns]
    return [
        fit(table, metric=metric, axis=axis)
        for axis in axes
        for metric in metrics
        if finished.filter(pl.col(axis).is_not_null())[metric].cast(pl.Float64).is_finite().any()
    ]


def _with_status(
    found: LawFit, cells: Cells, trend: Trend | None, expected_increasing: bool | None, rng: np.random.Generator
) -> LawFit:
    """The status, in the order in which questions have to be asked, and what goes with it."""
    if trend is None:
        return replace(found, status=Status.ONE_LEVEL)
    if len(found.levels) == 2:
        return replace(found, status=Status.TWO_LEVELS)
    level, value, seed = cells.points()
    if len(value) <= N_PARAMETERS:
        return replace(found, status=Status.TOO_FEW_CELLS)
    increasing = trend.increasing if expected_increasing is None else expected_increasing
    is_wrong_way = False
    if found.p_trend > _LARGEST_P_OF_A_LAW:
        # A metric that goes the other way is a claim of its own, with its own 5 % of false alarms.
        is_wrong_way = expected_increasing is not None and trend.p(not increasing) <= _LARGEST_P_OF_A_LAW
        if not is_wrong_way:
            return _without_trend(found, cells, value, n_directions=2 if expected_increasing is None else 1)
        found = replace(found, p_trend=trend.p(not increasing))
    if found.p_bend < _LARGEST_P_OF_A_BEND:
        return replace(found, status=Status.BENDS)
    if is_wrong_way:
        return replace(found, status=Status.WRONG_DIRECTION, increasing=not increasing)
    draws = power_law_posterior(level, value, seed, increasing=increasing, rng=rng)
    if draws is None:
        return replace(found, status=Status.BENDS)
    found = replace(found, draws=draws, increasing=increasing)
    low, high = found.interval("exponent")
    if low == 0 or high > _WEAK_RATIO * low:
        return replace(found, status=Status.WEAK_EXPONENT)
    return replace(found, status=Status.SEEDS_EQUAL) if cells.seeds_equal else found


def _without_trend(found: LawFit, cells: Cells, value: NDArray[np.float64], n_directions: int) -> LawFit:
    """Constant, if the test could have said otherwise: with too few orders of the cells no p can be small."""
    if n_directions > _LARGEST_P_OF_A_LAW * n_orders(cells.block) and np.ptp(value) > 0:
        return replace(found, status=Status.TOO_FEW_CELLS)
    return replace(found, status=Status.CONSTANT, constant=mean_estimate(value))
