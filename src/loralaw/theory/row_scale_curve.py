"""Mean and variance of the signed score as polynomials in the row scale: what every binary setting comes down to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from loralaw.theory.arguments import Floats, check_broadcast, real
from loralaw.theory.prediction import BestRowScale, Prediction


@dataclass(frozen=True, eq=False)
class RowScaleCurve:
    """mean = a0 + a1·α and variance = v0 + v1·α + v2·α² of the signed score, an array of settings each."""

    a0: Floats
    a1: Floats
    v0: Floats
    v1: Floats
    v2: Floats

    def predict(self, row_scale: ArrayLike) -> Prediction:
        """Mean, second moment, accuracy and risk at row scales that broadcast with the settings.

        Args:
            row_scale: α, any shape.

        Raises:
            InputError: a row scale that is not finite, or shapes that do not broadcast.
        """
        alpha = real("row_scale", row_scale)
        check_broadcast(setting=self.a0, row_scale=alpha)
        mean, variance = self.a0 + self.a1 * alpha, self._variance(alpha)
        accuracy = ndtr(_in_deviations(mean, variance))
        return Prediction(mean[()], (variance + mean**2)[()], accuracy[()], (variance + (1 - mean) ** 2)[()])

    def best_row_scale(self) -> BestRowScale:
        """The maximum of mean/sd, in closed form:

            α* = (2·a1·v0 - a0·v1) / (2·a0·v2 - a1·v1).

        mean/sd has one stationary point. Where the denominator is positive it is the maximum; else the accuracy has
        none and approaches Φ(|a1|/√v2) as α goes to infinity on the side of a1's sign.

        **Source**: ours; the stationary point is the paper's for its two settings (arXiv 2510.21345).
        """
        below = 2 * self.a0 * self.v2 - self.a1 * self.v1
        beyond = np.where(self.a1 == 0, 0.0, np.copysign(np.inf, self.a1))  # a source that no mean knows of is left out
        with np.errstate(all="ignore"):  # the branches not taken
            best = np.where(below > 0, (2 * self.a1 * self.v0 - self.a0 * self.v1) / below, beyond)
            worst = np.where(self.a1 == 0, np.inf, -self.a0 / self.a1)
        inside = np.where(np.isfinite(best), best, 0.0)
        at_best = _in_deviations(self.a0 + self.a1 * inside, self._variance(inside))
        far_off = _in_deviations(np.abs(self.a1), self.v2)
        accuracy_best = ndtr(np.where(np.isfinite(best), at_best, far_off))
        at_0, at_1 = (self.predict(alpha).accuracy for alpha in (0.0, 1.0))
        return BestRowScale(best[()], worst[()], accuracy_best[()], at_0, at_1)

    def _variance(self, alpha: Floats) -> Floats:
        # Rounding may leave less than 0 where classes are told apart without error.
        variance: Floats = np.maximum(self.v0 + (self.v1 + self.v2 * alpha) * alpha, 0.0)
        return variance


def _in_deviations(mean: Floats, variance: Floats) -> Floats:
    """mean/sd; 0 where both are."""
    with np.errstate(all="ignore"):
        ratio: Floats = np.where(mean == 0, 0.0, mean / np.sqrt(variance))
    return ratio
