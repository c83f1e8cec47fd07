"""What a configuration costs, learned from what the cells cost."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loralaw.errors import TableError, did_you_mean
from loralaw.laws.fitting import finished_rows

Floats = NDArray[np.float64]

_WITHOUT_SIZE = ("base_model", "method")
_WITH_SIZE = ("rank", "n_train_examples")


@dataclass(frozen=True, eq=False)
class Costs:
    """Of configurations, in the unit of the column.

    Args:
        values: (n,) measured where a configuration was run, else from the power law of cost in its sizes.
        relative_error: Root mean square of log(law / measured) over the configurations that were run.
    """

    values: Floats
    relative_error: float


def costs_of(rows: pl.DataFrame, table: pl.DataFrame, column: str) -> Costs:
    """The cost of every configuration.

    log cost = level of (base model, method) + a·log(rank) + b·log(examples), least squares over the means of the
    configurations that were run; those keep their own mean.

    Raises:
        TableError: There is no such column, or no positive number in it.
    """
    if column not in table.columns:
        raise TableError(f'the table has no column "{column}" to read costs from.{did_you_mean(column, table.columns)}')
    if not table[column].dtype.is_numeric():
        raise TableError(f'column "{column}" holds {table[column].dtype}, not numbers: costs cannot be read from it')
    cost = pl.col(column).cast(pl.Float64)
    finished = finished_rows(table).filter(cost.is_finite() & (cost > 0))
    if not finished.height:
        raise TableError(f'column "{column}" has no finished row above 0: costs are not known')
    by = [name for name in (*_WITHOUT_SIZE, *_WITH_SIZE) if name in rows.columns]
    means = (
        finished.sort(*by, column)
        .group_by(by, maintain_order=True)
        .agg(pl.col(column).mean().alias("cost"))
        .sort(by, nulls_last=True)
    )
    kinds = means.select([name for name in _WITHOUT_SIZE if name in by]).unique(maintain_order=True)
    beta = np.linalg.lstsq(_columns(means, kinds), np.log(means["cost"].to_numpy()), rcond=None)[0]
    told = np.exp(_columns(rows, kinds) @ beta)
    error = np.log(means["cost"].to_numpy()) - _columns(means, kinds) @ beta
    measured = rows.select(by).join(means, on=by, how="left", maintain_order="left", nulls_equal=True)["cost"]
    return Costs(
        np.where(measured.is_null(), told, measured.fill_null(0).to_numpy()), float(np.sqrt((error**2).mean()))
    )


def _columns(rows: pl.DataFrame, kinds: pl.DataFrame) -> Floats:
    """An indicator a (base model, method), and the logarithm of every size; what has no size counts as one."""
    names = kinds.columns
    sizes = [np.log(rows[name].cast(pl.Float64).fill_null(1).to_numpy()) for name in _WITH_SIZE if name in rows.columns]
    if not names:
        return np.column_stack([np.ones(rows.height), *sizes])
    number = rows.select(names).join(
        kinds.with_row_index("number"), on=names, how="left", maintain_order="left", nulls_equal=True
    )["number"]
    indicator = (number.fill_null(kinds.height).to_numpy()[:, None] == np.arange(kinds.height)).astype(np.float64)
    return np.column_stack([indicator, *sizes])
