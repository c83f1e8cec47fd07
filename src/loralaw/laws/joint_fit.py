"""What a fit along several axes found: one law of all of them, or why there is none."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from loralaw.errors import TableError, did_you_mean
from loralaw.laws.estimate import Estimate
from loralaw.laws.form_choice import FormChoice
from loralaw.laws.law import Law, Seeds
from loralaw.laws.law_fit import Found, Status, positive

Floats = NDArray[np.float64]
Points = Mapping[str, ArrayLike] | pl.DataFrame
"""Sizes by axis: a column each, of one length."""


@dataclass(frozen=True, eq=False)
class JointFit(Found):
    """The law of one metric along several axes, such as y = E + A·N^(-a) + B·D^(-b) + C·r^(-c), or why there is none.

    Args:
        metric: Column of the metric.
        axes: Columns of the sizes.
        status: What was found.
        message: The user's sentences: what was seen, and what to do.
        ranges: First and last level of every axis.
        increasing: Whether the metric rises along the axes that it depends on.
        p_trend: By axis, p of the permutation test of "no dependence on this axis", cells exchanged where everything
            else is equal; NaN along an axis with one level.
        p_misfit: p of the test of "the law describes every point, but for noise"; NaN where it could not be made.
        law: The law, where there is one: along the axes of `law.form.axes`, constant along the others.
        forms: The forms side by side, where there is a law along several axes.
        misfit: Standard deviation of the points about the law beside the noise of their cells; 0 where the law
            describes them. Predictions contain it.
        constant: Mean of the metric, where the status is `constant`.
        n_points: Distinct sizes.
        n_combinations: Of the levels of all axes; a grid has as many points.
        n_cells: Rows of the table that were used.
        n_excluded: Rows that were not finished, or had no number or no size.
        n_without_size: Those of them that only have no size, as full fine-tuning has no rank.
        n_contexts: Settings beside the axes that were used: those run at every point.
        n_contexts_left_out: Settings that were not.
        n_repeats: Cells with the settings and the seed of another one.
    """

    metric: str
    axes: tuple[str, ...]
    status: Status
    message: str
    ranges: dict[str, tuple[float, float]]
    increasing: bool | None
    p_trend: dict[str, float]
    p_misfit: float
    law: Law | None
    forms: FormChoice | None
    misfit: float
    constant: Estimate | None
    n_points: int
    n_combinations: int
    n_cells: int
    n_excluded: int
    n_without_size: int
    n_contexts: int
    n_contexts_left_out: int
    n_repeats: int

    @property
    def is_sparse(self) -> bool:
        """Whether less than half of the combinations were run, as in a star around a centre."""
        return 2 * self.n_points < self.n_combinations

    @property
    def _where(self) -> str:
        return ", ".join(self.axes)

    def predict(self, x: Points, seeds: Seeds = "these") -> Floats:
        """(n,) median of the metric at the points `x`; see `predict_interval`."""
        middle: Floats = self._quantiles(x, [0.5], seeds)[0]
        return middle

    def predict_interval(self, x: Points, level: float = 0.95, seeds: Seeds = "these") -> tuple[Floats, Floats]:
        """Ends of the interval of the mean metric at the points `x`, (n,) each.

        Along an axis on which the metric does not depend the answer is NaN outside the measured range: that nothing
        changes further out is not known.

        Args:
            x: A column for every axis of the fit.
            level: Probability inside the interval.
            seeds: "these" for the mean of the seeds that were run, "new" for the mean of all seeds.

        Raises:
            TableError: Neither a law nor a constant, a missing column, or a size that is not positive.
        """
        low, high = self._quantiles(x, [(1 - level) / 2, (1 + level) / 2], seeds)
        return low, high

    def draws(self, x: Points, seeds: Seeds = "these") -> Floats:
        """(n_draws, n) draws of the metric at the points `x`, with the misfit that the points showed.

        Raises:
            TableError: There is no law, a missing column, or a size that is not positive.
        """
        law, sizes = self._the_law("nothing can be drawn"), self._sizes(x)
        along = [self.axes.index(axis) for axis in law.form.axes]
        curves = law.curves(sizes[:, along], seeds)
        if self.misfit:
            curves = curves + self.misfit * np.random.default_rng(0).standard_normal(curves.shape)
        return np.where(self._is_known(sizes), curves, np.nan)

    def _quantiles(self, x: Points, probabilities: list[float], seeds: Seeds) -> Floats:
        if self.constant is not None:
            known = self._is_known(self._sizes(x))
            return np.array([np.where(known, self.constant.quantile(p), np.nan) for p in probabilities])
        return np.asarray(np.quantile(self.draws(x, seeds), probabilities, axis=0))

    def _is_known(self, sizes: Floats) -> NDArray[np.bool_]:
        """(n,) whether a point lies inside the range of every axis on which the metric does not depend."""
        known = np.ones(len(sizes), dtype=bool)
        for axis, size in zip(self.axes, sizes.T, strict=True):
            if self.law is None or axis not in self.law.form.axes:
                low, high = self.ranges[axis]
                known &= (size >= low) & (size <= high)
        return known

    def _sizes(self, x: Points) -> Floats:
        """(n, n_axes)."""
        names = x.columns if isinstance(x, pl.DataFrame) else list(x)
        for axis in self.axes:
            if axis not in names:
                raise TableError(f'the points have no "{axis}".{did_you_mean(axis, names)} Give {", ".join(self.axes)}')
        return np.column_stack(np.broadcast_arrays(*(positive(x[axis]) for axis in self.axes)))
