"""A target task of two classes with any covariance."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from loralaw.theory.arguments import Floats, checked_covariance, one_count, one_positive, vector
from loralaw.theory.gaussian_ridge import GaussianRidgeSource
from loralaw.theory.general import RidgeFit
from loralaw.theory.known_vector import KnownVector
from loralaw.theory.row_scale_curve import RowScaleCurve


@dataclass(init=False, eq=False)
class GaussianTarget:
    """Rows x = yμ + z with z ~ N(0, C).

    Args:
        n_target: n, rows to fine-tune on.
        mean: μ, (p,): half the difference of the class means.
        covariance: C, (p, p), within each class.
        gamma_target: γ, penalty of the fine-tuning.

    Raises:
        InputError: an argument that cannot be, by name.

    **Source**: ours; see `loralaw.theory.general`.
    """

    n_target: int
    mean: Floats
    covariance: Floats
    gamma_target: float

    def __init__(self, n_target: int, mean: ArrayLike, covariance: ArrayLike, gamma_target: float) -> None:
        self.n_target = one_count("n_target", n_target)
        self.gamma_target = one_positive("gamma_target", gamma_target)
        self.mean = vector("mean", mean)
        self.covariance = checked_covariance("covariance", covariance, self.mean.size)

    @cached_property
    def fit(self) -> RidgeFit:
        return RidgeFit(self.n_target, self.mean, self.covariance, self.gamma_target)

    def curve(self, source: KnownVector | GaussianRidgeSource) -> RowScaleCurve:
        """With w̄(α) = Q̄(μ/(1 + δ) + αγ·E w̃): mean a = μᵀw̄ and variance (w̄ᵀCw̄ + (1 - h)(1 - a)²)/h, and for a source
        that scatters the trace of its covariance with γ²RCR/h on top."""
        fit = self.fit
        start = fit.target_only
        slope = self.gamma_target * fit.classifier(fit.axes.T @ source.mean_vector(self.mean.size))
        a0, a1, left = float(fit.mean @ start), float(fit.mean @ slope), fit.left
        scatter = self.gamma_target**2 * source.scatter_within(fit)
        variance = (
            fit.within(start, start) + fit.rest * left**2,
            2 * fit.within(start, slope) - 2 * fit.rest * left * a1,
            fit.within(slope, slope) + scatter + fit.rest * a1**2,
        )
        return RowScaleCurve(*map(np.asarray, (a0, a1, *(term / fit.h for term in variance))))
