"""Which rows of a study can be compared along an axis.

A *context* is one combination of everything else that was designed: base model, method, data size and so on. In a full
grid every context is run at every level of the axis; in a star around a centre only the centre is. Averages by level
mean something only if every level is averaged over the same contexts, so a set of (level, seed) pairs is chosen, and
only contexts that have all of those pairs are used.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse

from loralaw.errors import TableError

# Every designed column, and columns that are functions of designed ones and stand in for them where they are absent.
DESIGN = ("base_model", "method", "rank", "n_train_examples", "task", "template")
_STANDS_IN = {"base_model": "n_params_total", "n_train_examples": "n_train_tokens"}
# The designed column that moves when the axis moves, and so cannot be held fixed along it.
_MOVES_WITH = {
    "rank": "rank",
    "n_train_examples": "n_train_examples",
    "n_train_tokens": "n_train_examples",
    "n_params_total": "base_model",
    "n_params_trainable": "rank",
}


# What is measured on the tokens of a text: templates write other texts.
_OF_TOKENS = ("cross_entropy", "cross_entropy_per_byte", "perplexity", "accuracy")


def check_one_text(table: pl.DataFrame, metric: str | None = None) -> None:
    """Raise `TableError` where rows cannot be compared: what is best for one task says nothing of another.

    Args:
        table: a row a cell.
        metric: what is compared; None: every metric. Several templates of one task can be compared by the choices that
            models make, not by the loss of the texts, which are others in each.
    """
    compared = {"task": True, "template": metric is None or metric in _OF_TOKENS}
    for column in (name for name, is_apart in compared.items() if is_apart and name in table.columns):
        names = [str(name) for name in table[column].drop_nulls().unique().sort()]
        if len(names) > 1:
            what = "results" if column == "task" else f"{metric or 'losses'}, of other texts,"
            raise TableError(
                f"the table has {len(names)} {column}s ({', '.join(names)}), whose {what} cannot be compared: keep the "
                f"rows of one (--{column} on a command line)"
            )


def context_columns(table: pl.DataFrame, axes: Sequence[str]) -> list[str]:
    """The columns whose combination is a context along `axes`; a function of an axis is never among them."""
    moving, columns = {_MOVES_WITH.get(axis, axis) for axis in axes}, []
    for name in DESIGN:
        if name in moving:
            continue
        column = name if name in table.columns else _STANDS_IN.get(name)
        if column in table.columns and column is not None:
            columns.append(column)
    return columns


def context_codes(table: pl.DataFrame, columns: list[str]) -> NDArray[np.int64]:
    """(n_rows,) number of each row's context, in sorted order of the contexts; a null is a value like any other."""
    if not columns:
        return np.zeros(table.height, dtype=np.int64)
    contexts = table.select(columns).unique().sort(columns, nulls_last=True).with_row_index("context code")
    joined = table.select(columns).join(contexts, on=columns, how="left", nulls_equal=True, maintain_order="left")
    return joined["context code"].to_numpy().astype(np.int64)


def comparable_rows(context: NDArray[np.int64], level: NDArray[np.int64], seed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(n_rows,) whether each row belongs to the largest set of rows that can be compared along the axis.

    Among the sets of (level, seed) pairs that some context was run at, the one chosen reaches the most levels, then
    uses the most cells (pairs times the contexts that have them all), then has the most pairs.

    Args:
        context: (n_rows,) number of the context of each row.
        level: (n_rows,) number of its level on the axis.
        seed: (n_rows,) number of its seed.

    **Source**: ours. In a grid these are the complete contexts, in a star its centre; one diverged cell costs its
    context, or, where that context is the only one, the cell alone.

    >>> import numpy as np
    >>> context, level = np.array([0, 0, 1]), np.array([0, 1, 0])       # the second context lacks the second level
    >>> comparable_rows(context, level, np.zeros(3, dtype=int)).tolist()
    [True, True, False]
    """
    pair = np.unique(level * (seed.max() + 1) + seed, return_inverse=True)[1]
    level_of_pair = np.zeros(pair.max() + 1, dtype=np.int64)
    level_of_pair[pair] = level
    patterns, pattern_of_context = _patterns(context, pair)
    n_contexts = np.bincount(pattern_of_context)

    n_levels = np.array([len(np.unique(level_of_pair[pairs])) for pairs in patterns])
    widest = np.flatnonzero(n_levels == n_levels.max())
    sizes = np.array([len(pairs) for pairs in patterns])
    has_pair = sparse.csr_array(
        (np.ones(sizes.sum(), dtype=np.int64), (np.repeat(np.arange(len(patterns)), sizes), np.concatenate(patterns))),
        shape=(len(patterns), len(level_of_pair)),
    )
    shared = (has_pair[widest] @ has_pair.T).tocoo()
    holds_all = shared.data == sizes[widest][shared.row]
    n_holding = np.bincount(shared.row[holds_all], n_contexts[shared.col[holds_all]], minlength=len(widest))
    best = int(np.lexsort((np.arange(len(widest)), -sizes[widest], -n_holding * sizes[widest]))[0])

    used_patterns = shared.col[holds_all & (shared.row == best)]
    pair_is_used = np.isin(np.arange(len(level_of_pair)), patterns[widest[best]])
    return np.isin(pattern_of_context[context], used_patterns) & pair_is_used[pair]


def _patterns(context: NDArray[np.int64], pair: NDArray[np.int64]) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
    """The distinct sets of pairs that contexts were run at, and which of them each context has."""
    runs = (
        pl.DataFrame({"context": context, "pair": pair})
        .group_by("context")
        .agg(pl.col("pair").unique().sort())
        .sort("context")
        .with_columns(pattern=pl.col("pair").cast(pl.List(pl.String)).list.join(" "))
    )
    distinct = runs.unique("pattern", keep="first", maintain_order=True).with_row_index("number")
    numbers = runs.join(distinct.select("pattern", "number"), on="pattern", how="left", maintain_order="left")["number"]
    return [pairs.to_numpy() for pairs in distinct["pair"]], numbers.to_numpy().astype(np.int64)
