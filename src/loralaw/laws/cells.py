"""From a study's table to the numbers that a law is fitted to."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loralaw.errors import TableError, did_you_mean
from loralaw.laws.contexts import comparable_rows, context_codes, context_columns

# Beyond this many levels, sizes are rounded to 1/1000 of the axis on a log scale: the law does not change over a step.
_MOST_LEVELS = 1000


@dataclass(frozen=True)
class Cells:
    """The comparable rows of one metric along one axis, sorted, so that the order of the table does not matter.

    Args:
        level: (n,) size of each cell.
        value: (n,) its metric.
        context: (n,) number of its context (see `contexts`).
        seed: (n,) number of its seed.
        n_excluded: Rows of the table without a usable value: not finished, no number, or no size.
        n_without_size: Those of them that only lack a size along the axis, as full fine-tuning lacks a rank.
        n_contexts: Contexts that are used.
        n_contexts_left_out: Contexts with usable rows of which none is used.
        seeds_equal: Every seed gave the same values; only one of them is kept.
    """

    level: NDArray[np.float64]
    value: NDArray[np.float64]
    context: NDArray[np.int64]
    seed: NDArray[np.int64]
    n_excluded: int
    n_without_size: int
    n_contexts: int
    n_contexts_left_out: int
    seeds_equal: bool

    @property
    def block(self) -> NDArray[np.int64]:
        """(n,) number of the (context, seed) of each cell: inside a block only the axis changes."""
        return np.unique(self.context * (self.seed.max() + 1) + self.seed, return_inverse=True)[1]

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Levels, values and seeds that the law is fitted to: the mean over contexts by (level, seed)."""
        if self.n_contexts == 1:  # repeats without a seed stay apart: their spread says how large the noise is
            return self.level, self.value, self.seed
        pairs = np.column_stack([self.level, self.seed])
        unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
        means = np.bincount(inverse.ravel(), self.value) / np.bincount(inverse.ravel())
        return unique[:, 0], means, unique[:, 1].astype(np.int64)


def read_cells(table: pl.DataFrame, metric: str, axis: str) -> Cells:
    """The comparable cells of `metric` along `axis`.

    Args:
        table: One row a cell; see `loralaw.laws.fit`.
        metric: Column of the metric.
        axis: Column of the sizes.

    Raises:
        TableError: No rows, a missing or non-numeric column, a size that is not positive, or no usable value.
    """
    if table.height == 0:
        raise TableError("the table has no rows: a law needs finished cells at three or more sizes")
    _check_number_columns(table, metric, axis)

    finished = pl.col("status").eq_missing("finished") if "status" in table.columns else pl.lit(True)
    value = pl.col(metric).cast(pl.Float64)
    measured = table.filter(finished & value.is_not_null() & value.is_finite())
    usable = measured.filter(pl.col(axis).is_not_null())
    if usable.height == 0:
        raise TableError(
            f"none of the {table.height:,} rows can be used: each is unfinished or lacks {metric} or {axis}. "
            "Look at the column status for what went wrong, or name another metric"
        )
    level = usable[axis].cast(pl.Float64).to_numpy()
    wrong = ~(np.isfinite(level) & (level > 0))
    if wrong.any():
        raise TableError(
            f"{axis} is {level[wrong][0]:g} in {wrong.sum():,} of {usable.height:,} finished rows: sizes along an axis "
            "must be finite and above 0. Leave such rows (a base model without adapter, say) out of the table"
        )
    n_excluded, n_without_size = table.height - usable.height, measured.height - usable.height
    return _comparable_cells(usable, level, metric, context_columns(usable, axis), n_excluded, n_without_size)


def _check_number_columns(table: pl.DataFrame, metric: str, axis: str) -> None:
    for role, name in (("metric", metric), ("axis", axis)):
        if name not in table.columns:
            raise TableError(
                f'the table has no column "{name}" (asked as {role}).{did_you_mean(name, table.columns)} '
                f"Its columns: {', '.join(table.columns)}"
            )
        dtype = table[name].dtype
        if not (dtype.is_numeric() or dtype == pl.Null):
            raise TableError(f'column "{name}" holds {dtype}, not numbers: name a numeric column as {role}')


def _comparable_cells(
    usable: pl.DataFrame,
    level: NDArray[np.float64],
    metric: str,
    columns: list[str],
    n_excluded: int,
    n_without_size: int,
) -> Cells:
    value = usable[metric].cast(pl.Float64).to_numpy()
    context = context_codes(usable, columns)
    seed = np.zeros(len(value), dtype=np.int64)
    if "seed" in usable.columns:
        seed = usable["seed"].rank("dense").fill_null(0).to_numpy().astype(np.int64)
    levels, level_number = np.unique(level, return_inverse=True)
    if not _do_seeds_recur(context, seed, level_number):
        seed = np.zeros_like(seed)
    used = comparable_rows(context, level_number, seed)
    n_contexts = len(np.unique(context[used]))
    n_contexts_left_out = len(np.unique(context)) - n_contexts
    if len(np.unique(level[used])) > _MOST_LEVELS:
        step = np.log(levels[-1] / levels[0]) / _MOST_LEVELS
        level = levels[0] * np.exp(np.round(np.log(level / levels[0]) / step) * step)

    order = np.flatnonzero(used)
    order = order[np.lexsort((value[order], level[order], seed[order], context[order]))]
    level, value, context, seed = level[order], value[order], context[order], seed[order]
    seeds_equal = _are_seeds_equal(level, value, context, seed)
    if seeds_equal:
        once = np.unique(np.column_stack([context, level]), axis=0, return_index=True)[1]
        level, value, context, seed = level[once], value[once], context[once], np.zeros_like(seed[once])
    return Cells(level, value, context, seed, n_excluded, n_without_size, n_contexts, n_contexts_left_out, seeds_equal)


def _do_seeds_recur(context: NDArray[np.int64], seed: NDArray[np.int64], level: NDArray[np.int64]) -> bool:
    """Whether any seed was run at two levels of a context; where every run has its own, seeds are mere labels."""
    blocks = np.unique(np.column_stack([context, seed, level]), axis=0)[:, :2]
    return bool(np.any(np.all(blocks[1:] == blocks[:-1], axis=1)))


def _are_seeds_equal(
    level: NDArray[np.float64], value: NDArray[np.float64], context: NDArray[np.int64], seed: NDArray[np.int64]
) -> bool:
    """Whether cells that differ only in their seed all have the same value, though not all cells have it."""
    if seed.min() == seed.max() or np.ptp(value) == 0:
        return False
    place = np.unique(np.column_stack([context, level]), axis=0, return_inverse=True)[1].ravel()
    lowest, highest = np.full(place.max() + 1, np.inf), np.full(place.max() + 1, -np.inf)
    np.minimum.at(lowest, place, value)
    np.maximum.at(highest, place, value)
    return bool(np.bincount(place).max() > 1 and (highest - lowest).max() <= 1e-12 * np.ptp(value))
