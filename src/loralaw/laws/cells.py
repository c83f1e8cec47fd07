"""From a study's table to the numbers that a law is fitted to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loralaw.errors import TableError, did_you_mean
from loralaw.laws.contexts import comparable_rows, context_codes, context_columns

# Beyond this many levels, sizes are rounded to 1/1000 of the axis on a log scale: the law does not change over a step.
_MOST_LEVELS = 1000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """The comparable rows of one metric along one or more axes, sorted, so that the order of the table does not matter.

    Args:
        sizes: (n, n_axes) sizes of each cell.
        value: (n,) its metric.
        context: (n,) number of its context (see `contexts`).
        seed: (n,) number of its seed.
        n_excluded: Rows of the table without a usable value: not finished, no number, or no size.
        n_without_size: Those of them that only lack a size along an axis, as full fine-tuning lacks a rank.
        n_contexts: Contexts that are used.
        n_contexts_left_out: Contexts with usable rows of which none is used.
        n_repeats: Cells that have context, sizes and seed of another one.
        seeds_equal: Every seed gave the same values; only one of them is kept.
    """

    sizes: Floats
    value: Floats
    context: Ints
    seed: Ints
    n_excluded: int
    n_without_size: int
    n_contexts: int
    n_contexts_left_out: int
    n_repeats: int
    seeds_equal: bool

    @property
    def level(self) -> Floats:
        """(n,) sizes along the only axis."""
        return self.sizes[:, 0]

    def blocks(self, axis: int = 0) -> Ints:
        """(n,) number of the (context, seed, sizes along other axes) of each cell: inside, only this axis changes."""
        others = np.column_stack([self.context, self.seed, np.delete(self.sizes, axis, axis=1)])
        return np.unique(others, axis=0, return_inverse=True)[1].ravel()

    def points(self) -> tuple[Floats, Floats, Ints]:
        """(m, n_axes) sizes, values and seeds that the law is fitted to: the mean over contexts by (sizes, seed)."""
        if self.n_contexts == 1:  # repeats without a seed stay apart: their spread says how large the noise is
            return self.sizes, self.value, self.seed
        places = np.column_stack([self.sizes, self.seed])
        unique, inverse = np.unique(places, axis=0, return_inverse=True)
        means = np.bincount(inverse.ravel(), self.value) / np.bincount(inverse.ravel())
        return unique[:, :-1], means, unique[:, -1].astype(np.int64)


def read_cells(table: pl.DataFrame, metric: str, axes: Sequence[str]) -> Cells:
    """The comparable cells of `metric` along `axes`.

    Args:
        table: One row a cell; see `loralaw.laws.fit`.
        metric: Column of the metric.
        axes: Columns of the sizes.

    Raises:
        TableError: No rows, a missing or non-numeric column, a size that is not positive, or no usable value.
    """
    if table.height == 0:
        raise TableError("the table has no rows: a law needs finished cells at three or more sizes")
    check_number_columns(table, [metric], axes)

    value = pl.col(metric).cast(pl.Float64)
    measured = table.filter(is_finished(table) & value.is_not_null() & value.is_finite())
    usable = measured.drop_nulls(list(axes))
    if usable.height == 0:
        raise TableError(
            f"none of the {table.height:,} rows can be used: each is unfinished or lacks {metric} or "
            f"{' or '.join(axes)}. Look at the column status for what went wrong, or name another metric"
        )
    sizes = usable.select(pl.col(axes).cast(pl.Float64)).to_numpy()
    for axis, size in zip(axes, sizes.T, strict=True):
        wrong = ~(np.isfinite(size) & (size > 0))
        if wrong.any():
            raise TableError(
                f"{axis} is {size[wrong][0]:g} in {wrong.sum():,} of {usable.height:,} finished rows: sizes along an "
                "axis must be finite and above 0. Leave such rows (a base model without adapter, say) out of the table"
            )
    n_excluded, n_without_size = table.height - usable.height, measured.height - usable.height
    return _comparable_cells(usable, sizes, metric, context_columns(usable, axes), n_excluded, n_without_size)


def is_finished(table: pl.DataFrame) -> pl.Expr:
    """Whether a row's status is "finished"; every row's, where the table has no such column."""
    return pl.col("status").cast(pl.String).eq_missing("finished") if "status" in table.columns else pl.lit(True)


def check_lists(**columns: Sequence[str] | None) -> None:
    """Refuse one name where a list of names is expected: Python would take its letters.

    Raises:
        TableError: with how to write it.
    """
    for role, names in columns.items():
        if isinstance(names, str):
            raise TableError(f'{role} is "{names}": give a list of columns, ["{names}"]')


def check_number_columns(table: pl.DataFrame, metrics: Sequence[str], axes: Sequence[str]) -> None:
    """Refuse a table that lacks one of these columns, or has it with something else than numbers.

    Raises:
        TableError: with what is there.
    """
    for role, name in (*(("metric", metric) for metric in metrics), *(("axis", axis) for axis in axes)):
        if name not in table.columns:
            raise TableError(
                f'the table has no column "{name}" (asked as {role}).{did_you_mean(name, table.columns)} '
                f"Its columns: {', '.join(table.columns)}"
            )
        dtype = table[name].dtype
        if not (dtype.is_numeric() or dtype == pl.Null):
            seen = table[name].drop_nulls().first()
            raise TableError(
                f'column "{name}" holds {dtype}, not numbers ({seen!r}, say): name a numeric column as {role}, or '
                "write plain numbers in one unit into it"
            )


def _comparable_cells(
    usable: pl.DataFrame, sizes: Floats, metric: str, columns: list[str], n_excluded: int, n_without_size: int
) -> Cells:
    value = usable[metric].cast(pl.Float64).to_numpy()
    context = context_codes(usable, columns)
    seed = np.zeros(len(value), dtype=np.int64)
    if "seed" in usable.columns:
        seed = usable["seed"].rank("dense").fill_null(0).to_numpy().astype(np.int64)
    sizes = np.column_stack([_rounded(size) for size in sizes.T])
    point = np.unique(sizes, axis=0, return_inverse=True)[1].ravel()
    if not _do_seeds_recur(context, seed, point):
        seed = np.zeros_like(seed)
    used = comparable_rows(context, point, seed)
    n_contexts = len(np.unique(context[used]))
    n_contexts_left_out = len(np.unique(context)) - n_contexts

    order = np.flatnonzero(used)
    order = order[np.lexsort((value[order], point[order], seed[order], context[order]))]
    sizes, point, value, context, seed = sizes[order], point[order], value[order], context[order], seed[order]
    seeds_equal = _are_seeds_equal(point, value, context, seed)
    if seeds_equal:
        once = np.unique(np.column_stack([context, point]), axis=0, return_index=True)[1]
        sizes, point, value, context = sizes[once], point[once], value[once], context[once]
        seed = np.zeros_like(context)
    n_apart = len(np.unique(np.column_stack([context, point, seed]), axis=0))
    n_repeats = len(value) - n_apart if seed.any() else 0  # without seeds, equal settings are what one expects
    return Cells(
        sizes, value, context, seed, n_excluded, n_without_size, n_contexts, n_contexts_left_out, n_repeats, seeds_equal
    )


def _rounded(size: Floats) -> Floats:
    """Sizes along one axis, to 1/1000 of the axis where there are more levels than that."""
    lowest, highest = size.min(), size.max()
    if len(np.unique(size)) <= _MOST_LEVELS:
        return size
    step = np.log(highest / lowest) / _MOST_LEVELS
    return np.asarray(lowest * np.exp(np.round(np.log(size / lowest) / step) * step))


def _do_seeds_recur(context: Ints, seed: Ints, point: Ints) -> bool:
    """Whether any seed was run at two points of a context; where every run has its own, seeds are mere labels."""
    blocks = np.unique(np.column_stack([context, seed, point]), axis=0)[:, :2]
    return bool(np.any(np.all(blocks[1:] == blocks[:-1], axis=1)))


def _are_seeds_equal(point: Ints, value: Floats, context: Ints, seed: Ints) -> bool:
    """Whether cells that differ only in their seed all have the same value, though not all cells have it."""
    if seed.min() == seed.max() or np.ptp(value) == 0:
        return False
    place = np.unique(np.column_stack([context, point]), axis=0, return_inverse=True)[1].ravel()
    lowest, highest = np.full(place.max() + 1, np.inf), np.full(place.max() + 1, -np.inf)
    np.minimum.at(lowest, place, value)
    np.maximum.at(highest, place, value)
    return bool(np.bincount(place).max() > 1 and (highest - lowest).max() <= 1e-12 * np.ptp(value))
