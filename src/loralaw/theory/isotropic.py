"""The core where the features within a class are uncorrelated with variance 1: closed forms, any number at once."""

from typing import NamedTuple

import numpy as np

from loralaw.theory.arguments import Floats
from loralaw.theory.row_scale_curve import RowScaleCurve


class Resolvent(NamedTuple):
    """What a ridge fit of n rows in p dimensions with penalty γ does, as n and p grow in a fixed ratio."""

    kappa: Floats
    """κ = γ(1 + δ): the penalty that the fit acts as if it had."""
    h: Floats
    """1 - `rest`: risks are those of the mean classifier divided by it."""
    rest: Floats
    """η/(1 + κ)², η = p/n."""


def resolvent(n_rows: Floats, dim: Floats, gamma: Floats) -> Resolvent:
    """κ is the positive root of κ² - (η + γ - 1)κ - γ = 0, by which h is (κ + γ/κ)/(1 + κ): in these forms nothing
    cancels, however small γ is."""
    eta = dim / n_rows
    a = eta + gamma - 1
    root = np.sqrt(a**2 + 4 * gamma)
    with np.errstate(divide="ignore"):  # in the branch not taken
        kappa = np.where(a > 0, (a + root) / 2, 2 * gamma / (root - a))
    return Resolvent(kappa, (kappa + gamma / kappa) / (1 + kappa), eta / (1 + kappa) ** 2)


def row_scale_curve(
    n_rows: Floats, dim: Floats, gamma: Floats, mean_norm_sq: Floats, inner: Floats, norm_sq: Floats
) -> RowScaleCurve:
    """The fine-tuned classifier's score: mean a = ⟨w̄, μ⟩ and variance (‖w̄‖² + (1 - h)(1 - a)²)/h of the mean classifier
    w̄ = μ/λ + ακ/(1 + κ)·(w̃ - μ⟨w̃, μ⟩/λ).

    `GaussianTarget.curve` for C = I, written out so that arrays of settings need no matrices.

    Args:
        n_rows: n, rows of the target.
        dim: p.
        gamma: γ, penalty of the fine-tuning.
        mean_norm_sq: m² = ‖μ_β‖², of the target's class mean.
        inner: c = E⟨w̃, μ_β⟩ of the source classifier.
        norm_sq: s = E‖w̃‖².

    **Source**: arXiv 2510.21345 for a known source, in another form; that a ridge source enters by c and s alone is
    ours.
    """
    kappa, h, rest = resolvent(n_rows, dim, gamma)
    m2, c, s = mean_norm_sq, inner, norm_sq
    lam = m2 + 1 + kappa
    left = (1 + kappa) / lam  # 1 - a0
    a0, a1 = m2 / lam, kappa * c / lam
    v0 = (m2 / lam**2 + rest * left**2) / h
    v1 = 2 * a1 * (1 / lam - rest * left) / h
    v2 = ((kappa / (1 + kappa)) ** 2 * np.maximum(s - c**2 / lam * (1 + left), 0.0) + rest * a1**2) / h
    return RowScaleCurve(*np.broadcast_arrays(a0, a1, v0, v1, v2))
