"""Fit laws to a table of cells."""

from collections.abc import Sequence
from dataclasses import replace
from typing import overload

import numpy as np
import polars as pl

from loralaw.errors import TableError
from loralaw.laws.cells import Cells, check_lists, check_number_columns, is_finished, read_cells
from loralaw.laws.estimate import end_to_end_change, mean_estimate
from loralaw.laws.form_choice import FormChoice, choose_form
from loralaw.laws.forms import ONE_AXIS, Form
from loralaw.laws.joint_fit import JointFit
from loralaw.laws.joint_fitting import LARGEST_P_OF_A_LAW, fit_joint
from loralaw.laws.law import Law
from loralaw.laws.law_fit import LawFit, Status
from loralaw.laws.linear_model import Floats, Ints
from loralaw.laws.metrics import METRICS, STUDY_AXES, Metric, metric_named
from loralaw.laws.misfit import LARGEST_P_OF_A_MISFIT, misfit_test
from loralaw.laws.sentences import message_of
from loralaw.laws.trend import N_PARAMETERS, Trend, bend_test, n_orders, trend_test

_MOST_AXES = 3
_STATUSES_OF_CELLS = ("diverged", "error", "out-of-memory")  # of a study of ours


@overload
def fit(table: pl.DataFrame, *, metric: str, axis: str) -> LawFit: ...
@overload
def fit(table: pl.DataFrame, *, metric: str, axes: Sequence[str]) -> JointFit: ...
def fit(
    table: pl.DataFrame, *, metric: str, axis: str | None = None, axes: Sequence[str] | None = None
) -> LawFit | JointFit:
    """Fit the law of one metric along one axis, or one law along several.

    One axis: y = floor + amplitude·x^(-exponent). Several: a sum with a term an axis, or one product of all of them,
    whichever the cells speak for.

    Only contexts (settings of the other axes) that were run at every level are compared; the law is that of their mean
    at each (level, seed). Whether there is a law at all is decided first, by permuting cells inside contexts and seeds.

    Args:
        table: One row a cell. `metric` and `axis` are numeric columns. Optional: `seed`; `status`, of which only
            "finished" is used; and the other axes: `base_model`, `method`, `rank`, `n_train_examples`, `template`.
        metric: Column of the metric. Of those in `METRICS` the direction and bound are known.
        axis: Column of the sizes, usually one of `AXES`.
        axes: Columns of the sizes of a law along two or three axes.

    Returns:
        The fit: a status with the user's sentences, and the law with its intervals where there is one. A null, NaN or
        infinite metric and a null size exclude their row, which is counted.

    Raises:
        TableError: No rows, no such column, a column that is not numeric, a size that is not positive, no row with a
            value, or neither one axis nor two or three different ones.

    **Source**: ours; see `law_posterior`, `choose_form` and `trend_test`.

    >>> ranks = [1, 4, 16, 64, 256] * 2
    >>> losses = [2 + rank**-0.5 + 0.001 * (-1) ** i for i, rank in enumerate(ranks)]
    >>> table = pl.DataFrame({"rank": ranks, "cross_entropy": losses, "seed": [0] * 5 + [1] * 5})
    >>> law = fit(table, metric="cross_entropy", axis="rank")
    >>> low, high = law.interval("exponent")
    >>> law.status.value, low < 0.5 < high
    ('law', True)
    """
    if (axis is None) == (axes is None):
        raise TableError("give one axis, or several axes")
    if axes is not None:
        if isinstance(axes, str) or not 2 <= len(set(axes)) == len(axes) <= _MOST_AXES:
            raise TableError(f"axes are {axes!r}: give two or three different columns, or one as axis")
        return fit_joint(table, metric, axes)
    assert axis is not None
    return _fit_one(table, metric, axis)


def _fit_one(table: pl.DataFrame, metric: str, axis: str) -> LawFit:
    known = metric_named(metric)
    cells = read_cells(table, metric, [axis])
    levels, number = np.unique(cells.level, return_inverse=True)
    rng = np.random.default_rng(0)  # the same table always gives the same intervals
    several = len(levels) > 1
    trend = trend_test(cells.level, cells.value, cells.blocks(), rng) if several else None
    found = LawFit(
        metric=metric,
        axis=axis,
        status=Status.LAW,
        message="",
        levels=levels,
        means=np.bincount(number, cells.value) / np.bincount(number),
        increasing=trend.increasing if trend else None,
        p_trend=trend.p(known.increasing) if trend else float("nan"),
        p_bend=bend_test(*_on_the_axis(cells)),
        change=end_to_end_change(cells) if several else None,
        constant=None,
        law=None,
        forms=None,
        n_cells=len(cells.value),
        n_excluded=cells.n_excluded,
        n_without_size=cells.n_without_size,
        n_contexts=cells.n_contexts,
        n_contexts_left_out=cells.n_contexts_left_out,
        n_repeats=cells.n_repeats,
    )
    found = _with_status(found, cells, trend, known)
    return replace(found, message=message_of(found))


def fit_all(
    table: pl.DataFrame, *, metrics: Sequence[str] | None = None, axes: Sequence[str] | None = None
) -> list[LawFit]:
    """Every metric along every axis.

    Args:
        table: As for `fit`.
        metrics: Columns; if not given, those of `METRICS` with a finished value.
        axes: Columns; if not given, those of rank, training examples and model size with two or more levels.

    Returns:
        The fits by axis, then metric.

    Raises:
        TableError: As for `fit`; or none is named, and the table has no column of a known name.
    """
    check_lists(metrics=metrics, axes=axes)
    check_number_columns(table, metrics or [], axes or [])
    finished = finished_rows(table)
    return [
        fit(table, metric=metric, axis=axis)
        for axis in dict.fromkeys(axes or known_axes(finished, fewest_levels=2))
        for metric in dict.fromkeys(metrics or known_metrics(finished, [axis]))
    ]


def fit_all_jointly(
    table: pl.DataFrame, *, metrics: Sequence[str] | None = None, axes: Sequence[str] | None = None
) -> list[JointFit]:
    """One law of every metric along all axes.

    Args:
        table: As for `fit`.
        metrics: Columns; if not given, those of `METRICS` with a finished value.
        axes: Two or three columns; if not given, those of rank, training examples and model size with three or more
            levels.

    Raises:
        TableError: As for `fit`; or none is named, and the table has no column of a known name, or no two such axes.
    """
    check_lists(metrics=metrics, axes=axes)
    check_number_columns(table, metrics or [], axes or [])
    finished = finished_rows(table)
    along = list(axes or known_axes(finished, fewest_levels=3))
    if axes is None and len(along) < 2:
        raise TableError("no two axes of the table have three levels or more: fit one axis at a time")
    return [fit(table, metric=metric, axes=along) for metric in metrics or known_metrics(finished, along)]


def finished_rows(table: pl.DataFrame) -> pl.DataFrame:
    """The rows whose status is "finished"; all of them where there is no such column.

    Raises:
        TableError: None is, and the column holds words of somebody else.
    """
    finished = table.filter(is_finished(table))
    if table.height and not finished.height:
        seen = [str(word) for word in table["status"].drop_nulls().unique().sort()]
        if not set(seen) & set(_STATUSES_OF_CELLS):
            raise TableError(
                f'no row has the status "finished", which only is used ({table.height:,} rows have {", ".join(seen)}): '
                "rename the word, or leave the column out"
            )
    return finished


def known_axes(finished: pl.DataFrame, fewest_levels: int) -> list[str]:
    known = [axis for axis in STUDY_AXES if axis in finished.columns and _has_numbers(finished[axis])]
    if not known:
        raise _unknown(finished, "axis", list(STUDY_AXES))
    return [axis for axis in known if finished[axis].drop_nulls().n_unique() >= fewest_levels]


def known_metrics(finished: pl.DataFrame, axes: Sequence[str]) -> list[str]:
    """Those of which a row with a size along every axis has a number."""
    known = [name for name in METRICS if name in finished.columns and _has_numbers(finished[name])]
    if not known:
        raise _unknown(finished, "metric", list(METRICS))
    rows = finished.drop_nulls(list(axes))
    return [name for name in known if rows[name].cast(pl.Float64).is_finite().any()]


def _has_numbers(column: pl.Series) -> bool:
    return column.dtype.is_numeric() or column.dtype == pl.Null


def _unknown(table: pl.DataFrame, role: str, known: list[str]) -> TableError:
    numeric = [name for name in table.columns if table[name].dtype.is_numeric()]
    return TableError(
        f"the table has no {role} with a known name ({', '.join(known)}): name the column. Its numeric columns: "
        f"{', '.join(numeric) or 'none'}"
    )


def _with_status(found: LawFit, cells: Cells, trend: Trend | None, known: Metric) -> LawFit:
    """The status, in the order in which questions have to be asked, and what goes with it."""
    if trend is None:
        return replace(found, status=Status.ONE_LEVEL)
    if len(found.levels) == 2:
        return replace(found, status=Status.TWO_LEVELS)
    sizes, value, seed = cells.points()
    expected_increasing = known.increasing
    if len(value) <= N_PARAMETERS:
        return replace(found, status=Status.TOO_FEW_CELLS)
    increasing = trend.increasing if expected_increasing is None else expected_increasing
    is_wrong_way = False
    if found.p_trend > LARGEST_P_OF_A_LAW:
        # A metric that goes the other way is a claim of its own, with its own 5 % of false alarms.
        is_wrong_way = expected_increasing is not None and trend.p(not increasing) <= LARGEST_P_OF_A_LAW
        if not is_wrong_way:
            return _without_trend(found, cells, value, n_directions=2 if expected_increasing is None else 1)
        found = replace(found, p_trend=trend.p(not increasing))
    if is_wrong_way and found.p_bend < LARGEST_P_OF_A_MISFIT:
        return replace(found, status=Status.BENDS)
    if is_wrong_way:
        return replace(found, status=Status.WRONG_DIRECTION, increasing=not increasing)
    forms = [Form(name, (found.axis,)) for name in ONE_AXIS]
    choice = choose_form(forms, Form("power+floor", (found.axis,)), sizes, value, seed, increasing=increasing)
    if choice is None or _bends(found, choice, sizes, value, seed):
        return replace(found, status=Status.BENDS)
    law = Law(choice.draws, increasing, known.bound_of(value))
    found = replace(found, law=law, forms=choice, increasing=increasing)
    if law.weak_exponents():
        return replace(found, status=Status.WEAK_EXPONENT)
    return replace(found, status=Status.SEEDS_EQUAL) if cells.seeds_equal else found


def _bends(found: LawFit, choice: FormChoice, sizes: Floats, value: Floats, seed: Ints) -> bool:
    """Whether the points are none of one power law with a floor, and not flat from a size on either."""
    if found.p_bend >= LARGEST_P_OF_A_MISFIT or np.isnan(found.p_bend):
        return False
    return not choice.draws.form.is_saturating or misfit_test(choice.draws, sizes, value, seed) < LARGEST_P_OF_A_MISFIT


def _without_trend(found: LawFit, cells: Cells, value: Floats, n_directions: int) -> LawFit:
    """Constant, if the test could have said otherwise: with too few orders of the cells no p can be small."""
    if n_directions > LARGEST_P_OF_A_LAW * n_orders(cells.blocks()) and np.ptp(value) > 0:
        return replace(found, status=Status.TOO_FEW_CELLS)
    return replace(found, status=Status.CONSTANT, constant=mean_estimate(value))


def _on_the_axis(cells: Cells) -> tuple[Floats, Floats, Ints]:
    """Levels, values and seeds of the points of the only axis."""
    sizes, value, seed = cells.points()
    return sizes[:, 0], value, seed
