"""Mean and second moment of the score as polynomials in the row scale: all that every binary setting comes down to."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from loralaw.theory.arguments import Floats, check_broadcast, real
from loralaw.theory.prediction import BestRowScale, Prediction

_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True, eq=False)
class RowScaleCurve:
    """mean = a0 + a1·α and second moment = b0 + b1·α + b2·α² of the signed score, an array of settings each."""

    a0: Floats
    a1: Floats
    b0: Floats
    b1: Floats
    b2: Floats

    def predict(self, row_scale: ArrayLike) -> Prediction:
        """Mean, second moment, accuracy and risk at row scales that broadcast with the settings.

        Args:
            row_scale: α, any shape.

        Raises:
            InputError: a row scale that is not finite, or shapes that do not broadcast.
        """
        alpha = real("row_scale", row_scale)
        check_broadcast(setting=self.a0, row_scale=alpha)
        mean = self.a0 + self.a1 * alpha
        second_moment = self.b0 + (self.b1 + self.b2 * alpha) * alpha
        accuracy = ndtr(mean / np.sqrt(np.maximum(second_moment - mean**2, _TINY)))  # rounding may leave less than 0
        return Prediction(mean[()], second_moment[()], accuracy[()], (second_moment + 1 - 2 * mean)[()])

    def best_row_scale(self) -> BestRowScale:
        """The maximum of mean/sd, in closed form: with variance v0 + v1·α + v2·α²,

            α* = (2·a1·v0 - a0·v1) / (2·a0·v2 - a1·v1).

        mean/sd has one stationary point. Where the denominator is positive it is the maximum; else the accuracy has
        none and approaches Φ(|a1|/√v2) as α goes to infinity on the side of a1's sign.

        **Source**: ours; the stationary point is the paper's for its two settings (arXiv 2510.21345).
        """
        v0, v1, v2 = self.b0 - self.a0**2, self.b1 - 2 * self.a0 * self.a1, self.b2 - self.a1**2
        below = 2 * self.a0 * v2 - self.a1 * v1
        beyond = np.where(self.a1 == 0, 0.0, np.copysign(np.inf, self.a1))  # a source that no mean knows of is left out
        with np.errstate(divide="ignore", invalid="ignore"):
            best = np.where(below > 0, (2 * self.a1 * v0 - self.a0 * v1) / below, beyond)
            inside = np.where(np.isfinite(best), best, 0.0)
            at_best = (self.a0 + self.a1 * inside) / np.sqrt(np.maximum(v0 + (v1 + v2 * inside) * inside, _TINY))
            far_off = np.abs(self.a1) / np.sqrt(v2)
            worst = -self.a0 / self.a1
        accuracy_best = ndtr(np.where(np.isfinite(best), at_best, far_off))
        at_0, at_1 = (self.predict(alpha).accuracy for alpha in (0.0, 1.0))
        return BestRowScale(best[()], worst[()], accuracy_best[()], at_0, at_1)
