"""What a fit found: a status, the law with its intervals where there is one, and the sentence for the user."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loralaw.errors import TableError, did_you_mean
from loralaw.laws.estimate import Estimate
from loralaw.laws.exponent_grid import HIGHEST_EXPONENT, LOWEST_EXPONENT
from loralaw.laws.power_law import PowerLawDraws

Floats = NDArray[np.float64]

_PARAMETERS = ("floor", "amplitude", "exponent")


class Status(StrEnum):
    """What came out of a fit. The first three have a law; the others say why there is none."""

    LAW = "law"
    WEAK_EXPONENT = "weak-exponent"
    SEEDS_EQUAL = "seeds-equal"
    CONSTANT = "constant"
    BENDS = "bends"
    WRONG_DIRECTION = "wrong-direction"
    TWO_LEVELS = "two-levels"
    ONE_LEVEL = "one-level"
    TOO_FEW_CELLS = "too-few-cells"


_WITH_LAW = (Status.LAW, Status.WEAK_EXPONENT, Status.SEEDS_EQUAL)


@dataclass(frozen=True, eq=False)
class LawFit:
    """The law y = floor + amplitude·x^(-exponent) of one metric along one axis, or why there is none.

    Every interval is for the seeds and contexts that were run.

    Args:
        metric: Column of the metric.
        axis: Column of the sizes.
        status: What was found.
        message: The user's sentences: what was seen, and what to do.
        levels: (n_levels,) sizes, rising; rounded to 1/1000 of the axis where there are more than 1,000.
        means: (n_levels,) mean of the metric at each level, over the cells used.
        increasing: Whether the metric rises along the axis; None with one level.
        p_trend: p of the permutation test of "no dependence on the axis", in the direction asserted of the metric (in
            the other where the status is `wrong-direction`, in either where none is asserted); NaN with one level.
        p_bend: p of the test of "one power law"; NaN where it could not be made.
        change: From the first level to the last; None with one level.
        constant: Mean of the metric, where the status is `constant`.
        draws: Posterior of the law, where there is one.
        bound: What the floor cannot pass.
        n_cells: Rows of the table that were used.
        n_excluded: Rows that were not finished, or had no number or no size.
        n_without_size: Those of them that only have no size, as full fine-tuning has no rank.
        n_contexts: Settings of the other axes that were used: those run at every level.
        n_contexts_left_out: Settings that were not.
    """

    metric: str
    axis: str
    status: Status
    message: str
    levels: Floats
    means: Floats
    increasing: bool | None
    p_trend: float
    p_bend: float
    change: Estimate | None
    constant: Estimate | None
    draws: PowerLawDraws | None
    bound: float | None
    n_cells: int
    n_excluded: int
    n_without_size: int
    n_contexts: int
    n_contexts_left_out: int

    @property
    def has_law(self) -> bool:
        """Whether there are parameters, a gain of doubling, and predictions at any size."""
        return self.status in _WITH_LAW

    @property
    def can_predict(self) -> bool:
        """Whether `predict` and `predict_interval` answer: there is a law, or the metric is constant."""
        return self.has_law or self.status is Status.CONSTANT

    @property
    def params(self) -> dict[str, float]:
        """Posterior medians of floor, amplitude and exponent; empty where there is no law."""
        return {name: float(np.median(self._parameter(name))) for name in _PARAMETERS} if self.has_law else {}

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Ends of the interval of a parameter.

        Args:
            name: floor, amplitude or exponent. An end of the exponent that the data leave open is 0 or infinite.
            level: Probability inside the interval.

        Raises:
            TableError: There is no law, or no such parameter.
        """
        self._require_law(f"{name} has no interval")
        if name not in _PARAMETERS:
            raise TableError(f'a law has no parameter "{name}".{did_you_mean(name, _PARAMETERS)} It has: {_PARAMETERS}')
        low, high = (float(end) for end in np.quantile(self._parameter(name), [(1 - level) / 2, (1 + level) / 2]))
        if name == "exponent":
            low = 0.0 if low < 1.2 * LOWEST_EXPONENT else low
            high = np.inf if high > 0.97 * HIGHEST_EXPONENT else high
        return low, high

    def predict(self, x: ArrayLike) -> Floats:
        """Median of the mean metric at sizes `x`, in the shape of `x`; see `predict_interval`."""
        middle: Floats = self._quantiles(x, [0.5])[0]
        return middle

    def predict_interval(self, x: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
        """Ends of the interval of the mean metric at sizes `x`, in the shape of `x`.

        A law answers at any size. A constant answers with its mean between the first level and the last and with NaN
        elsewhere: that the metric does not change beyond what was measured is not known.

        Raises:
            TableError: Neither a law nor a constant (see `can_predict`), or a size that is not positive.
        """
        low, high = self._quantiles(x, [(1 - level) / 2, (1 + level) / 2])
        return low, high

    def gain_of_doubling(self, x: float, level: float = 0.95) -> tuple[float, float, float]:
        """Median and interval of the improvement from size x to 2x, in the metric's unit; positive is better.

        For a metric without an asserted direction it is the size of the change in the direction that the data show.

        Raises:
            TableError: There is no law, or x is not positive.
        """
        self._require_law("no gain of doubling is known")
        curve = self._law_at(_positive([x, 2 * x]))
        gain = (curve[:, 1] - curve[:, 0]) * (1 if self.increasing else -1)
        low, middle, high = np.quantile(gain, [(1 - level) / 2, 0.5, (1 + level) / 2])
        return float(middle), float(low), float(high)

    def _parameter(self, name: str) -> Floats:
        assert self.draws is not None
        if name == "exponent":
            return self.draws.exponent_spread
        return self.draws.amplitude if name == "amplitude" else self._clipped(self.draws.floor)

    def _law_at(self, sizes: Floats) -> Floats:
        assert self.draws is not None
        return self._clipped(self.draws.at(sizes))

    def _clipped(self, values: Floats) -> Floats:
        """Not past the bound. Only what is reported is clipped: clipping inside the posterior would ruin coverage."""
        if self.bound is None:
            return values
        return np.minimum(values, self.bound) if self.increasing else np.maximum(values, self.bound)

    def _quantiles(self, x: ArrayLike, probabilities: list[float]) -> Floats:
        sizes = _positive(x)
        if self.constant is not None:
            inside = (sizes >= self.levels[0]) & (sizes <= self.levels[-1])
            return np.array([np.where(inside, self.constant.quantile(p), np.nan) for p in probabilities])
        self._require_law("nothing can be predicted")
        quantiles: Floats = np.quantile(self._law_at(sizes.ravel()), probabilities, axis=0)
        return quantiles.reshape(len(probabilities), *sizes.shape)

    def _require_law(self, consequence: str) -> None:
        if not self.has_law:
            found = f"{self.metric} along {self.axis} has no law (status {self.status})"
            raise TableError(f"{found}, so {consequence}. {self.message}")


def _positive(x: ArrayLike) -> Floats:
    sizes = np.asarray(x, dtype=np.float64)
    wrong = sizes[~(np.isfinite(sizes) & (sizes > 0))]
    if wrong.size:
        raise TableError(f"sizes must be finite and above 0, not {wrong[0]:g}")
    return sizes
