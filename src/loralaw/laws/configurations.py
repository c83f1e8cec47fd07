"""Configurations that a study speaks of: what a metric is expected to be there, and what they cost.

A configuration is one choice of everything that was designed: base model, method, rank, training examples. Those that
were run are candidates, and so are all combinations of their levels, with one doubling beyond the largest rank and the
largest number of examples.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loralaw.errors import TableError
from loralaw.laws.cells import check_number_columns
from loralaw.laws.contexts import DESIGN, check_one_text
from loralaw.laws.fitting import finished_rows, fit
from loralaw.laws.joint_fit import JointFit
from loralaw.laws.law_fit import LawFit
from loralaw.laws.metrics import AXES, metric_named
from loralaw.laws.posterior import N_DRAWS

Floats = NDArray[np.float64]

_SIZES = {"base_model": "n_params_total", "rank": "rank", "n_train_examples": "n_train_examples"}
"""Designed columns that have a size, and the axis that it lies on."""
_EXTENDED = ("rank", "n_train_examples")
_FEWEST_LEVELS = 3
_MOST_CANDIDATES = 2000  # in one law: of each there are 4,000 draws


@dataclass(frozen=True, eq=False)
class Candidates:
    """Configurations, and draws of a metric there.

    Args:
        rows: One row a configuration: the designed columns of the table, `n_params_total`, `is_measured`,
            `is_extrapolated` (beyond the levels that were run), and `law`, the number of the fit that tells of it.
        draws: (n_draws, n) of the metric, the mean of the seeds that were run; NaN where nothing is known.
        fits: The laws that they rest on.
        increasing: Whether more of the metric is better.
        n_left_out: Rows of the table that did not finish, or have no number.
        is_noise_known: Whether any settings were repeated; if not, the spread of all cells stands for it, which is too
            much rather than too little.
    """

    rows: pl.DataFrame
    draws: Floats
    fits: list[LawFit | JointFit]
    increasing: bool
    n_left_out: int
    is_noise_known: bool


def candidates(table: pl.DataFrame, metric: str, *, larger_is_better: bool | None = None) -> Candidates:
    """The configurations of a table with draws of a metric.

    Settings without a size, or with fewer than three levels of one, are kept apart; along the others one law is fitted
    in each. Where there is no law, what was measured is known and nothing else.

    Args:
        table: A row a cell.
        metric: Column of the metric.
        larger_is_better: Its direction; if not given, the known one, and smaller for a metric that is not known.

    Raises:
        TableError: No such column, the metric is a setting, no column of settings, a size that is not positive, or no
            finished row with a number.
    """
    if metric in (*DESIGN, *AXES):
        raise TableError(f'"{metric}" is a setting, not a metric: name what was measured')
    check_one_text(table, metric)
    check_number_columns(table, [metric], [axis for axis in _SIZES.values() if axis in table.columns])
    finished = finished_rows(table).filter(pl.col(metric).cast(pl.Float64).is_finite())
    columns = [name for name in DESIGN if name in finished.columns and finished[name].is_not_null().any()]
    if not columns:
        raise TableError(
            f"no row is finished (by its status, if there is one), has a {metric} and one of the columns "
            f"{', '.join(DESIGN)}"
        )
    finished = _with_wide_sizes(finished)
    sized = [name for name in _SIZES if name in columns and _n_levels(finished, _SIZES[name]) >= _FEWEST_LEVELS]
    apart = [pl.col(name) for name in columns if name not in sized]
    without_size = [pl.col(_SIZES[name]).is_null().alias(f"without {name}") for name in sized]  # as full has no rank
    spread_of_all = _spread_of_all(finished[metric].cast(pl.Float64).to_numpy())
    rows, draws, fits = list[pl.DataFrame](), list[Floats](), list[LawFit | JointFit]()
    for _, cells in finished.sort(columns, nulls_last=True).group_by([*apart, *without_size], maintain_order=True):
        axes = [_SIZES[name] for name in sized if _n_levels(cells, _SIZES[name]) >= _FEWEST_LEVELS]
        found = _fit(cells, metric, axes)
        law = pl.lit(None if found is None else len(fits), dtype=pl.Int64)
        mine = _rows_of(cells, columns, extended=found is not None).with_columns(law=law)
        rows.append(mine)
        mean, error = _means(mine, cells, metric, spread_of_all)
        draws.append(_measured(mean, error) if found is None else _draws_of(found, mine, mean, error))
        fits += [] if found is None else [found]
    known = metric_named(metric).increasing if larger_is_better is None else larger_is_better
    n_settings = finished.select(columns).unique().height
    return Candidates(
        rows=pl.concat(rows),
        draws=np.concatenate(draws, axis=1),
        fits=fits,
        increasing=bool(known),
        n_left_out=table.height - finished.height,
        is_noise_known=finished.height > n_settings,
    )


def _with_wide_sizes(cells: pl.DataFrame) -> pl.DataFrame:
    """Sizes as 64-bit numbers, so that twice the largest fits; refused where one is not positive."""
    sizes = [axis for axis in _SIZES.values() if axis in cells.columns]
    for axis in sizes:
        wrong = cells.filter(~(pl.col(axis).cast(pl.Float64).is_finite() & (pl.col(axis) > 0)))
        if wrong.height:
            raise TableError(
                f"{axis} is {wrong[axis][0]} in {wrong.height:,} of {cells.height:,} finished rows: sizes must be "
                "finite and above 0, or empty where there is none"
            )
    wide = {axis: pl.Int64() if cells.schema[axis].is_integer() else pl.Float64() for axis in sizes}
    return cells.cast(wide)  # type: ignore[arg-type]


def _rows_of(cells: pl.DataFrame, columns: Sequence[str], *, extended: bool) -> pl.DataFrame:
    """Every combination of the levels of some cells, with one doubling beyond the last where a law can tell of it."""
    levels = {name: cells[name].unique().sort().to_list() for name in columns}
    largest = {name: cells[name].max() for name in _EXTENDED if name in columns}
    for name in largest:
        if extended and _n_levels(cells, name) >= _FEWEST_LEVELS:
            levels[name].append(2 * levels[name][-1])
    rows = cells.select(columns).unique().sort(columns, nulls_last=True)
    if math.prod(map(len, levels.values())) <= _MOST_CANDIDATES:  # with more, those that were run are enough
        schema = {name: cells.schema[name] for name in columns}
        rows = pl.DataFrame(list(itertools.product(*levels.values())), schema=schema, orient="row")
    if "base_model" in columns and "n_params_total" in cells.columns:
        sizes = cells.group_by("base_model").agg(pl.col("n_params_total").max())
        rows = rows.join(sizes, on="base_model", how="left", maintain_order="left", nulls_equal=True)
    measured = cells.select(columns).unique().with_columns(is_measured=pl.lit(True))
    rows = rows.join(measured, on=columns, how="left", maintain_order="left", nulls_equal=True)
    beyond = [(pl.col(name) > size).fill_null(False) for name, size in largest.items() if size is not None]
    return rows.with_columns(
        pl.col("is_measured").fill_null(False),
        is_extrapolated=pl.any_horizontal(beyond) if beyond else pl.lit(False),
    )


def _fit(cells: pl.DataFrame, metric: str, axes: Sequence[str]) -> LawFit | JointFit | None:
    """The law along these axes, None where there is none."""
    if not axes:
        return None
    found = fit(cells, metric=metric, axes=axes) if len(axes) > 1 else fit(cells, metric=metric, axis=axes[0])
    return found if found.has_law else None


def _draws_of(found: LawFit | JointFit, rows: pl.DataFrame, mean: Floats, error: Floats) -> Floats:
    """(n_draws, n) of the law and of what may set a configuration apart; at measured ones, their cells count too.

    value = law + bump, bump of variance τ². Given the cells of a configuration, of mean m and error s, the bump has the
    mean w·(m - law) and the variance w·s², w = τ²/(τ² + s²).
    """
    law, rng = found.law, np.random.default_rng(0)
    assert law is not None
    curves = law.curves(rows.select(pl.col(law.form.axes).cast(pl.Float64)).to_numpy())
    known = np.isfinite(mean)
    n_parameters = law.form.n_linear + law.form.n_searched
    bumps = _bump_variances(mean[known] - np.median(curves[:, known], axis=0), error[known], n_parameters, rng)[:, None]
    own_mean, own_variance = np.where(known, mean, 0.0), np.where(known, error, np.inf) ** 2
    weight = np.where(known, bumps / np.maximum(bumps + own_variance, 1e-300), 0.0)
    left = np.sqrt(np.where(known, weight * np.where(known, own_variance, 0.0), bumps))
    return np.asarray(curves + weight * (own_mean - curves) + left * rng.standard_normal(curves.shape))


def _bump_variances(residuals: Floats, errors: Floats, n_parameters: int, rng: np.random.Generator) -> Floats:
    """(n_draws,) of τ², the variance of configurations about their law beside the noise of their cells.

    Squares of the residuals over draws of their χ², less the mean square of the errors: fiducial draws of a variance
    component. With one cell a configuration nothing says what is noise, and all is bump.
    """
    free = max(len(residuals) - n_parameters, 1)
    rough = float((residuals**2).sum()) / rng.chisquare(free, N_DRAWS)
    noise = float((errors**2).mean())  # of freedom enough beside the residuals', so that it is taken as known
    return np.asarray(np.maximum(rough - noise, 0.0))


def _measured(mean: Floats, error: Floats) -> Floats:
    """(n_draws, n) of what was measured, NaN elsewhere."""
    return np.asarray(mean + error * np.random.default_rng(0).standard_normal((N_DRAWS, len(mean))))


def _means(rows: pl.DataFrame, cells: pl.DataFrame, metric: str, spread_of_all: float) -> tuple[Floats, Floats]:
    """Mean of each configuration's cells and its standard error from the spread inside configurations; NaN without.

    Where no configuration has two cells, the spread of all cells of the table stands for the noise.
    """
    by = [name for name in DESIGN if name in rows.columns]
    value = pl.col(metric)
    each = (
        cells.sort(*by, metric)
        .group_by(by, maintain_order=True)
        .agg(
            value.mean().alias("mean"),
            pl.len().alias("count"),
            ((value - value.mean()) ** 2).sum().alias("squares"),
        )
    )
    free = int((each["count"] - 1).sum())
    spread = float(np.sqrt(float(each["squares"].sum()) / free)) if free else spread_of_all
    joined = rows.select(by).join(each, on=by, how="left", maintain_order="left", nulls_equal=True)
    count = joined["count"].cast(pl.Float64).to_numpy()
    return joined["mean"].cast(pl.Float64).to_numpy(), spread / np.sqrt(count)


def _spread_of_all(values: Floats) -> float:
    """More than the noise, as settings differ too; NaN of a single cell."""
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _n_levels(cells: pl.DataFrame, axis: str) -> int:
    return cells[axis].drop_nulls().n_unique() if axis in cells.columns else 0


def label_of(row: dict[str, object]) -> str:
    """`micro-6m · rank 16 · 4,096 examples`."""
    parts = []
    for name in DESIGN:
        value = row.get(name)
        if value is None:
            continue
        axis = AXES.get(name)
        if name == "rank":
            parts.append(f"rank {value}")
        elif axis is not None:
            parts.append(f"{value:,} examples")
        else:
            parts.append(str(value))
    return " · ".join(parts)
