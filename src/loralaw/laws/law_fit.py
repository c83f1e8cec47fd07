"""What a fit along one axis found: a status, the law with its intervals where there is one, and the user's sentence."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loralaw.errors import TableError
from loralaw.laws.estimate import Estimate
from loralaw.laws.form_choice import FormChoice
from loralaw.laws.law import Law, Seeds

Floats = NDArray[np.float64]


class Status(StrEnum):
    """What came out of a fit. The first four have a law; the others say why there is none."""

    LAW = "law"
    WEAK_EXPONENT = "weak-exponent"
    SEEDS_EQUAL = "seeds-equal"
    APPROXIMATE = "approximate"
    """Of several axes only: the law misses points by more than noise, and its intervals contain that."""
    CONSTANT = "constant"
    BENDS = "bends"
    WRONG_DIRECTION = "wrong-direction"
    TWO_LEVELS = "two-levels"
    ONE_LEVEL = "one-level"
    TOO_FEW_CELLS = "too-few-cells"


WITH_LAW = (Status.LAW, Status.WEAK_EXPONENT, Status.SEEDS_EQUAL, Status.APPROXIMATE)


class Found:
    """What every fit is asked, along one axis or several: is there a law, and what are its parameters?"""

    metric: str
    status: Status
    message: str
    law: Law | None

    @property
    def has_law(self) -> bool:
        """Whether there are parameters and predictions at any size."""
        return self.status in WITH_LAW

    @property
    def can_predict(self) -> bool:
        """Whether `predict` and `predict_interval` answer: there is a law, or the metric is constant."""
        return self.has_law or self.status is Status.CONSTANT

    @property
    def params(self) -> dict[str, float]:
        """Posterior medians by the names that the law's form gives its parameters; empty where there is no law."""
        return self.law.params if self.law is not None else {}

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Ends of the interval of a parameter.

        Args:
            name: One of `params`. An end of an exponent that the data leave open is 0 or infinite.
            level: Probability inside the interval.

        Raises:
            TableError: There is no law, or no such parameter.
        """
        return self._the_law(f"{name} has no interval").interval(name, level)

    @property
    def _where(self) -> str:
        """The axes, in an error."""
        raise NotImplementedError

    def _the_law(self, consequence: str) -> Law:
        if self.law is None:
            found = f"{self.metric} along {self._where} has no law (status {self.status})"
            raise TableError(f"{found}, so {consequence}. {self.message}")
        return self.law


@dataclass(frozen=True, eq=False)
class LawFit(Found):
    """The law y = floor + amplitude·x^(-exponent) of one metric along one axis, or why there is none.

    Every interval is for the contexts that were run, and for their seeds unless `seeds="new"` asks for others.

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
        law: The law, where there is one.
        forms: The forms side by side, where there is a law. The law is y = floor + amplitude·x^(-exponent), or, where
            that is named, the same up to a size `flat_beyond` and flat from there.
        n_cells: Rows of the table that were used.
        n_excluded: Rows that were not finished, or had no number or no size.
        n_without_size: Those of them that only have no size, as full fine-tuning has no rank.
        n_contexts: Settings of the other axes that were used: those run at every level.
        n_contexts_left_out: Settings that were not.
        n_repeats: Cells with the settings and the seed of another one.
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
    law: Law | None
    forms: FormChoice | None
    n_cells: int
    n_excluded: int
    n_without_size: int
    n_contexts: int
    n_contexts_left_out: int
    n_repeats: int

    @property
    def _where(self) -> str:
        return self.axis

    def predict(self, x: ArrayLike, seeds: Seeds = "these") -> Floats:
        """Median of the mean metric at sizes `x`, in the shape of `x`; see `predict_interval`."""
        middle: Floats = self._quantiles(x, [0.5], seeds)[0]
        return middle

    def predict_interval(self, x: ArrayLike, level: float = 0.95, seeds: Seeds = "these") -> tuple[Floats, Floats]:
        """Ends of the interval of the mean metric at sizes `x`, in the shape of `x`.

        A law answers at any size. A constant answers with its mean between the first level and the last and with NaN
        elsewhere: that the metric does not change beyond what was measured is not known.

        Args:
            x: Sizes.
            level: Probability inside the interval.
            seeds: "these" for the mean of the seeds that were run; "new" for the mean of all seeds, which with two or
                three seeds misses up to 15 times in 100 where 5 are said, if seeds shift whole curves.

        Raises:
            TableError: Neither a law nor a constant (see `can_predict`), or a size that is not positive.
        """
        low, high = self._quantiles(x, [(1 - level) / 2, (1 + level) / 2], seeds)
        return low, high

    def gain_of_doubling(self, x: float, level: float = 0.95) -> tuple[float, float, float]:
        """Median and interval of the improvement from size x to 2x, in the metric's unit; positive is better.

        For a metric without an asserted direction it is the size of the change in the direction that the data show.

        Raises:
            TableError: There is no law, or x is not positive.
        """
        curve = self._the_law("no gain of doubling is known").curves(positive([x, 2 * x])[:, None])
        gain = (curve[:, 1] - curve[:, 0]) * (1 if self.increasing else -1)
        low, middle, high = np.quantile(gain, [(1 - level) / 2, 0.5, (1 + level) / 2])
        return float(middle), float(low), float(high)

    def _quantiles(self, x: ArrayLike, probabilities: list[float], seeds: Seeds) -> Floats:
        sizes = positive(x)
        if self.constant is not None:
            inside = (sizes >= self.levels[0]) & (sizes <= self.levels[-1])
            return np.array([np.where(inside, self.constant.quantile(p), np.nan) for p in probabilities])
        quantiles = self._the_law("nothing can be predicted").quantiles(sizes.reshape(-1, 1), probabilities, seeds)
        return quantiles.reshape(len(probabilities), *sizes.shape)


def positive(x: ArrayLike) -> Floats:
    """Sizes as an array, refused where one is not finite and above 0."""
    sizes = np.asarray(x, dtype=np.float64)
    wrong = sizes[~(np.isfinite(sizes) & (sizes > 0))]
    if wrong.size:
        raise TableError(f"sizes must be finite and above 0, not {wrong[0]:g}")
    return sizes
