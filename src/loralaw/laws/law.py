"""A law that was found, with its uncertainty: parameters, curves, and the intervals of both."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from loralaw.errors import TableError, did_you_mean
from loralaw.laws.exponent_grid import HIGHEST_EXPONENT, LOWEST_EXPONENT
from loralaw.laws.forms import Form
from loralaw.laws.posterior import LawDraws

Floats = NDArray[np.float64]
Seeds = Literal["these", "new"]
"""Whose mean a prediction is of: the seeds that were run, or all seeds there could be."""

WEAK_RATIO = 8.0
"""An exponent that is known to less than this factor is not known."""


@dataclass(frozen=True, eq=False)
class Law:
    """The posterior of a law, reported within its bound.

    Args:
        draws: Of the posterior.
        increasing: Whether the metric rises with size.
        bound: What floor and curve cannot pass, None for no bound.
        others: Forms that the points do not rule out, each with its weight: curves are drawn from them too, parameters
            are not.
    """

    draws: LawDraws
    increasing: bool
    bound: float | None
    others: tuple[tuple[LawDraws, float], ...] = ()

    @property
    def form(self) -> Form:
        return self.draws.form

    @property
    def params(self) -> dict[str, float]:
        """Posterior medians."""
        return {name: float(np.median(self._parameter(name))) for name in self.form.parameters}

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Ends of the interval of a parameter; an end of an exponent that the data leave open is 0 or infinite.

        Raises:
            TableError: There is no such parameter.
        """
        known = self.form.parameters
        if name not in known:
            raise TableError(
                f'this law has no parameter "{name}".{did_you_mean(name, known)} It has: {", ".join(known)}'
            )
        low, high = (float(end) for end in np.quantile(self._parameter(name), _ends(level)))
        if name in self.form.exponents:
            low = 0.0 if low < 1.2 * LOWEST_EXPONENT else low
            high = np.inf if high > 0.97 * HIGHEST_EXPONENT else high
        return low, high

    def curves(self, sizes: Floats, seeds: Seeds = "these") -> Floats:
        """(n_draws, m) the law at sizes (m, n_axes)."""
        curves = self.draws.at(sizes, new_seeds=seeds == "new")
        end = len(curves)
        for other, weight in self.others:  # draws come in no order, so that any share of them will do
            start = end - round(weight * len(curves))
            curves[start:end] = other.at(sizes, new_seeds=seeds == "new")[start:end]
            end = start
        return self._clipped(curves)

    def quantiles(self, sizes: Floats, probabilities: list[float], seeds: Seeds = "these") -> Floats:
        """(n_probabilities, m) of the mean metric at sizes (m, n_axes)."""
        return np.asarray(np.quantile(self.curves(sizes, seeds), probabilities, axis=0))

    def weak_exponents(self) -> list[str]:
        """Those that floor, amplitude and noise leave almost open."""
        intervals = {name: self.interval(name) for name in self.form.exponents}
        return [name for name, (low, high) in intervals.items() if low == 0 or high > WEAK_RATIO * low]

    def _parameter(self, name: str) -> Floats:
        values = self.draws.parameter(name)
        return self._clipped(values) if name == "floor" else values

    def _clipped(self, values: Floats) -> Floats:
        """Not past the bound. Only what is reported is clipped: clipping inside the posterior would ruin coverage."""
        if self.bound is None:
            return values
        return np.minimum(values, self.bound) if self.increasing else np.maximum(values, self.bound)


def _ends(level: float) -> list[float]:
    return [(1 - level) / 2, (1 + level) / 2]
