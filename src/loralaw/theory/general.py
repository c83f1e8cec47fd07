"""The core for any covariance C of the features within a class.

A ridge fit of n rows x = yμ + z, z ~ N(0, C), with penalty γ is on average the classifier Q̄u, where

    R = (C/(1 + δ) + γI)⁻¹,   δ = Tr(C R)/n,   Q̄ = (R⁻¹ + μμᵀ/(1 + δ))⁻¹,   u = μ/(1 + δ),

with αγw̃ added to u where it fine-tunes α·w̃. Its squared loss on fresh rows is that of the mean classifier divided by
h = 1 - Tr(CRCR)/(n(1 + δ)²), and it scatters around its mean with the covariance risk/(n(1 + δ)²)·RCR. All of the
theory is in these two sentences: mean = μᵀQ̄u and second moment = risk - 1 + 2·mean.

**Source**: ours, by deterministic equivalents; for C = I they become the formulas of arXiv 2510.21345.
"""

from functools import cached_property

import numpy as np

from loralaw.theory.arguments import Floats

_NEWTON_STEPS = 200


class RidgeFit:
    """Ridge fits of n rows of one task, seen through what they do on average.

    Args:
        n_rows: n.
        mean: μ, (p,): half the difference of the class means.
        covariance: C, (p, p), symmetric positive definite.
        gamma: γ.

    **Cost.** One eigendecomposition, O(p³).
    """

    def __init__(self, n_rows: float, mean: Floats, covariance: Floats, gamma: float) -> None:
        self.n_rows, self.gamma = n_rows, gamma
        self._variances, self.axes = np.linalg.eigh(covariance)
        self._mean = self.axes.T @ mean
        self.delta = _delta(self._variances, n_rows, gamma)
        self._resolvent = 1 / (self._variances / (1 + self.delta) + gamma)
        self.scatter_axes = self._variances * self._resolvent**2
        """Diagonal of RCR along `axes`, (p,)."""
        self.h = 1 - float(self._variances @ self.scatter_axes) / (n_rows * (1 + self.delta) ** 2)

    def classifier(self, u: Floats) -> Floats:
        """Q̄u, (p,), both along `axes`."""
        r_mean = self._resolvent * self._mean
        return self._resolvent * u - r_mean * (r_mean @ u) / (1 + self.delta + self._mean @ r_mean)

    @cached_property
    def target_only(self) -> Floats:
        """Q̄μ/(1 + δ) along `axes`: the mean classifier without a source."""
        return self.classifier(self._mean / (1 + self.delta))

    def along_axes(self, vector: Floats) -> Floats:
        return self.axes.T @ vector

    def score_mean(self, w: Floats) -> float:
        """μᵀw of a classifier along `axes`."""
        return float(self._mean @ w)

    def score_product(self, v: Floats, w: Floats) -> float:
        """vᵀ(C + μμᵀ)w: the expected product of the two scores on a fresh row."""
        return float((v * self._variances) @ w) + self.score_mean(v) * self.score_mean(w)

    def scatter(self) -> float:
        """risk/(n(1 + δ)²), of which RCR makes the covariance of the classifier fitted without a source."""
        w = self.target_only
        risk = (self.score_product(w, w) - 2 * self.score_mean(w) + 1) / self.h
        return risk / (self.n_rows * (1 + self.delta) ** 2)


def _delta(variances: Floats, n_rows: float, gamma: float) -> float:
    """The root of δ = Tr(C(C/(1 + δ) + γI)⁻¹)/n, by Newton's method on a convex function, from above its root."""
    t = 1 + float(variances.sum()) / (n_rows * gamma)
    for _ in range(_NEWTON_STEPS):
        below = variances + gamma * t
        excess = t - 1 - float(np.sum(variances * t / below)) / n_rows
        step = excess / (1 - float(np.sum((variances / below) ** 2)) / n_rows)
        t -= step
        if abs(step) <= 1e-15 * t:
            break
    return t - 1
