"""A number with its interval where no law is fitted: the mean of a constant, the change between two levels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from loralaw.laws.cells import Cells


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error, and the degrees of freedom that the error was estimated with."""

    value: float
    standard_error: float
    n_degrees_of_freedom: int

    def quantile(self, probability: float) -> float:
        """Value + t·standard error; infinite where no cell was left to estimate the error with."""
        if probability == 0.5:
            return self.value
        if self.n_degrees_of_freedom < 1:
            return float(np.copysign(np.inf, probability - 0.5))
        return float(self.value + stdtrit(self.n_degrees_of_freedom, probability) * self.standard_error)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Ends of the t interval of this level.

        >>> [round(end, 4) for end in Estimate(1.0, 0.1, 10).interval(0.95)]  # the t quantile is 2.228
        [0.7772, 1.2228]
        """
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)


def mean_estimate(values: NDArray[np.float64]) -> Estimate:
    """Mean of the points of a metric that does not depend on the axis."""
    n = len(values)
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(n)), n - 1)


def end_to_end_change(cells: Cells) -> Estimate:
    """Change of the metric from the first level to the last, comparing inside each context and seed.

    Least squares with a free mean for every (context, seed) and one step from the first level to the last; with one
    cell at either level in each of them this is the paired t interval.
    """
    at_end = (cells.level == cells.level.min()) | (cells.level == cells.level.max())
    value, block = cells.value[at_end], np.unique(cells.blocks()[at_end], return_inverse=True)[1]
    step = (cells.level[at_end] == cells.level.max()).astype(np.float64)
    n_blocks = int(block.max()) + 1

    def centred(row: NDArray[np.float64]) -> NDArray[np.float64]:
        return row - (np.bincount(block, row) / np.bincount(block))[block]

    inside, within = centred(value), centred(step)
    if within @ within == 0:  # no block was run at both ends
        return Estimate(float(value[step == 1].mean() - value[step == 0].mean()), np.inf, 0)
    change = float(inside @ within / (within @ within))
    n_spare = len(value) - n_blocks - 1
    squares = float(((inside - change * within) ** 2).sum())
    error = np.sqrt(squares / n_spare / (within @ within)) if n_spare > 0 else np.inf
    return Estimate(change, float(error), max(n_spare, 0))
