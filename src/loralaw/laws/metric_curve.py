"""A metric by level and seed, about its own best law: what metrics are judged by."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import stdtrit

from loralaw.laws.cells import read_cells
from loralaw.laws.exponent_grid import arc_length_grid
from loralaw.laws.metrics import metric_named
from loralaw.laws.trend import trend_test

Floats = NDArray[np.float64]

FEWEST_LEVELS = 4
_N_EXPONENTS = 60


@dataclass(frozen=True, eq=False)
class MetricCurve:
    """A metric by level and seed, its seeds all run at every level, turned so that it falls.

    Args:
        levels: (n_levels,).
        values: (n_levels, n_seeds).
        increasing: Whether it was turned.
        p_trend: Of the permutation test of "no dependence on the axis".
    """

    levels: Floats
    values: Floats
    increasing: bool
    p_trend: float

    @classmethod
    def read(cls, table: pl.DataFrame, metric: str, axis: str) -> "MetricCurve":
        """Of the comparable cells, the mean of their contexts; without levels where no seed was run at all of them."""
        cells = read_cells(table, metric, [axis])
        sizes, value, seed = cells.points()
        levels, number = np.unique(sizes[:, 0], return_inverse=True)
        seeds, seed_number = np.unique(seed, return_inverse=True)
        shape = len(levels), len(seeds)
        place = np.ravel_multi_index((number, seed_number), shape)
        total, count = (np.bincount(place, each, minlength=np.prod(shape)).reshape(shape) for each in (value, None))
        complete = (count > 0).all(axis=0)
        known, increasing, p = metric_named(metric).increasing, False, float("nan")
        if len(levels) > 1:
            trend = trend_test(cells.level, cells.value, cells.blocks(), np.random.default_rng(0))
            increasing, p = trend.increasing if known is None else known, trend.p(known)
        values = total[:, complete] / count[:, complete]
        return cls(levels[: len(levels) * bool(complete.any())], -values if increasing else values, increasing, p)

    @property
    def is_judged(self) -> bool:
        """Whether it has levels enough, and varies."""
        return len(self.levels) >= FEWEST_LEVELS and bool(np.ptp(self.values) > 0)

    @property
    def n_seeds(self) -> int:
        return int(self.values.shape[1])

    @property
    def law(self) -> Floats:
        """(n_levels, 1) the best law of the level means, over its own range."""
        return self._law[:, None] / self._range

    @property
    def residual(self) -> Floats:
        """(n_levels, n_seeds) what is left, over the range of the law; the seeds' own shifts are taken out."""
        return (self._unshifted - self._law[:, None]) / self._range

    def resampled(self, picked: NDArray[np.int64]) -> Floats:
        """(m, n_levels, n_seeds) residuals by their numbers (m, n_levels · n_seeds)."""
        return np.asarray(self.residual.ravel()[picked].reshape(-1, *self.values.shape))

    @property
    def t(self) -> float:
        """97.5 % quantile for the degrees of freedom between seeds."""
        return float(stdtrit(max((len(self.levels) - 1) * (self.n_seeds - 1), 2), 0.975))

    @property
    def inflation(self) -> float:
        """Residuals are smaller than the errors they stand for: of the seeds' shifts and two parameters' worth."""
        n_spare = self.values.size - self.n_seeds - 2
        return float(np.sqrt(self.values.size / max(n_spare, 1)))

    @cached_property
    def _unshifted(self) -> Floats:
        return np.asarray(self.values - self.values.mean(axis=0) + self.values.mean())

    @cached_property
    def _law(self) -> Floats:
        return np.asarray(best_law(self.levels, self._unshifted.mean(axis=1)[None])[0])

    @property
    def _range(self) -> float:
        return max(float(np.ptp(self._law)), 1e-12 * float(np.ptp(self._unshifted)), 1e-300)


def statistics(levels: Floats, values: Floats) -> Floats:
    """Held-out error, misfit, seed spread, Kendall's τ of curves that fall.

    Args:
        levels: (n_levels,).
        values: (m, n_levels, n_seeds), seeds' shifts removed.

    Returns:
        (m, 4); the first two over the range of the level means.
    """
    means, (n_levels, n_seeds) = values.mean(axis=2), values.shape[1:]
    # Level means can be equal to the last bit, as those of an accuracy on few questions.
    least = 1e-12 * np.maximum(np.abs(values).max(axis=(1, 2)), 1e-200)
    span = np.maximum(np.ptp(means, axis=1), least)
    first = min(max(FEWEST_LEVELS, n_levels - max(1, n_levels // 3)), n_levels - 1)
    missed = [
        (best_law(levels[:held], means[:, :held], levels[held : held + 1])[:, 0] - means[:, held]) ** 2
        for held in range(first, n_levels)
    ]
    misfit = np.sqrt(((values - best_law(levels, means)[:, :, None]) ** 2).mean(axis=(1, 2)))
    within = ((values - means[:, :, None]) ** 2).sum(axis=(1, 2))
    free = (n_levels - 1) * (n_seeds - 1)
    between = np.maximum(means.std(axis=1, ddof=1), least)
    spread = np.sqrt(within / free) / between if free else np.full(len(values), np.nan)
    smaller, larger = np.triu_indices(n_levels, 1)
    tau = np.sign(means[:, smaller] - means[:, larger]).mean(axis=1)
    return np.stack([np.sqrt(np.mean(missed, axis=0)) / span, misfit / span, spread, tau], axis=1)


def best_law(levels: Floats, means: Floats, at: Floats | None = None) -> Floats:
    """Least squares of floor + amplitude·x^(-exponent), amplitude not negative, of many curves at once.

    Args:
        levels: (n_levels,).
        means: (m, n_levels).
        at: (k,) sizes; the levels if not given.

    Returns:
        (m, k) the laws there.
    """
    exponents = arc_length_grid(levels, _N_EXPONENTS)[0]
    centre = np.log(levels).mean()

    def shape_at(sizes: Floats) -> Floats:
        return np.asarray(np.exp(-exponents[:, None] * (np.log(sizes) - centre)))

    shape = shape_at(levels)
    middle = shape.mean(axis=1, keepdims=True)
    squares = ((shape - middle) ** 2).sum(axis=1)
    mean = means.mean(axis=1, keepdims=True)
    amplitudes = np.maximum((means - mean) @ (shape - middle).T / squares, 0)
    best = np.argmax(amplitudes**2 * squares, axis=1)
    amplitude = amplitudes[np.arange(len(means)), best][:, None]
    return np.asarray(mean + amplitude * (shape_at(levels if at is None else at) - middle)[best])
