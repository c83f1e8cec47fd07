"""One sentence on what the finished cells of a running study say."""

import polars as pl

from loralaw.laws import STUDY_AXES, describe, fit

METRIC = "cross_entropy"
_FEWEST_LEVELS = 3


def law_so_far(table: pl.DataFrame) -> str | None:
    """The law of cross-entropy along the axis with the most levels so far, with its interval, or why there is none.

    None before any axis has three levels: two identify a difference, not a law.
    """
    done = table.filter(pl.col("status") == "finished")
    n_levels = {axis: done[axis].drop_nulls().n_unique() for axis in STUDY_AXES}
    axis = max(STUDY_AXES, key=lambda name: n_levels[name])
    if n_levels[axis] < _FEWEST_LEVELS:
        return None
    return describe(fit(done, metric=METRIC, axis=axis))
