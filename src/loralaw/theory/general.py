"""The core for any covariance C of the features within a class.

A ridge fit of n rows x = yμ + z, z ~ N(0, C), with penalty γ is on average the classifier w̄ = Q̄u, where

    R = (C/(1 + δ) + γI)⁻¹,   δ = Tr(C R)/n,   Q̄ = (R⁻¹ + μμᵀ/(1 + δ))⁻¹,   u = μ/(1 + δ),

with αγw̃ added to u where it fine-tunes α·w̃. Its squared loss on fresh rows is that of the mean classifier divided by
h = 1 - Tr(CRCR)/(n(1 + δ)²), and it scatters around its mean with the covariance risk/(n(1 + δ)²)·RCR. All of the
theory is in these two sentences: with the mean score a = μᵀw̄ the risk is (w̄ᵀCw̄ + (1 - a)²)/h, and what of it is not
(1 - a)² is the variance of the score.

**Source**: ours, by deterministic equivalents; for C = I they become the formulas of arXiv 2510.21345.
"""

from functools import cached_property

import numpy as np

from loralaw.errors import InputError
from loralaw.theory.arguments import Floats

_NEWTON_STEPS = 200
_LEAST_PENALTY = 1e-12  # of the mean variance: below, rounding decides


class RidgeFit:
    """Ridge fits of n rows of one task, seen through what they do on average.

    Args:
        n_rows: n.
        mean: μ, (p,): half the difference of the class means.
        covariance: C, (p, p), symmetric positive definite.
        gamma: γ.

    Raises:
        InputError: a penalty that is lost beside the variances.

    **Cost.** One eigendecomposition, O(p³).
    """

    def __init__(self, n_rows: int, mean: Floats, covariance: Floats, gamma: float) -> None:
        self.n_rows = n_rows
        self._variances, self.axes = np.linalg.eigh(covariance)
        if gamma < (least := _LEAST_PENALTY * float(self._variances.mean())):
            raise InputError(f"the penalty {gamma:g} is lost beside the features' variances: give at least {least:.2g}")
        self.mean = self.axes.T @ mean
        self.rate = _rate(self._variances, n_rows, gamma)
        """1/(1 + δ)."""
        self._resolvent = 1 / (self._variances * self.rate + gamma)
        self._mean_product = self.rate * float(self.mean @ (self._resolvent * self.mean))
        self.scatter_axes = self._variances * self._resolvent**2
        """Diagonal of RCR along `axes`, (p,)."""
        self.rest = self.rate**2 * float(self._variances @ self.scatter_axes) / n_rows
        """1 - h."""
        self.h = self.rate * (1 + gamma * float(self.scatter_axes.sum()) / n_rows)  # as 1 - rest, but nothing cancels

    def classifier(self, u: Floats) -> Floats:
        """Q̄u, (p,), both along `axes`."""
        r_mean = self._resolvent * self.mean
        return self._resolvent * u - r_mean * (self.rate * float(r_mean @ u) / (1 + self._mean_product))

    def within(self, v: Floats, w: Floats) -> float:
        """vᵀCw of two classifiers along `axes`."""
        return float((v * self._variances) @ w)

    @cached_property
    def target_only(self) -> Floats:
        """Q̄μ/(1 + δ) along `axes`: the mean classifier without a source."""
        return self.rate * self._resolvent * self.mean / (1 + self._mean_product)

    @property
    def left(self) -> float:
        """1 - a of `target_only`."""
        return 1 / (1 + self._mean_product)

    def scatter(self) -> float:
        """risk/(n(1 + δ)²), of which RCR makes the covariance of the classifier fitted without a source."""
        risk = (self.within(self.target_only, self.target_only) + self.left**2) / self.h
        return risk * self.rate**2 / self.n_rows


def _rate(variances: Floats, n_rows: int, gamma: float) -> float:
    """The root u = 1/(1 + δ) of u + Tr(uC(uC + γI)⁻¹)/n = 1, by Newton's method from below on a function that is
    concave and rises, which never oversteps."""
    u = 1 / (1 + float(variances.sum()) / (n_rows * gamma))
    for _ in range(_NEWTON_STEPS):
        below = variances * u + gamma
        missing = 1 - u - float(np.sum(variances * u / below)) / n_rows
        step = missing / (1 + gamma * float(np.sum(variances / below**2)) / n_rows)
        u += step
        if abs(step) <= 1e-15 * u:
            break
    return u
