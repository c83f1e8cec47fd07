"""The core where the features within a class are uncorrelated with variance 1: closed forms, any number at once."""

from typing import NamedTuple

import numpy as np

from loralaw.theory.arguments import Floats
from loralaw.theory.row_scale_curve import RowScaleCurve


class Resolvent(NamedTuple):
    """What a ridge fit of n rows in p dimensions with penalty γ does, as n and p grow in a fixed ratio."""

    eta: Floats
    """p/n."""
    kappa: Floats
    """κ = γ(1 + δ): the penalty that the fit acts as if it had."""
    h: Floats
    """1 - η/(1 + κ)²: risks are those of the mean classifier divided by it."""


def resolvent(n_rows: Floats, dim: Floats, gamma: Floats) -> Resolvent:
    """κ is the positive root of κ² - (η + γ - 1)κ - γ = 0, by which h is (κ + γ/κ)/(1 + κ): in these forms nothing
    cancels, however small γ is."""
    eta = dim / n_rows
    a = eta + gamma - 1
    root = np.sqrt(a**2 + 4 * gamma)
    with np.errstate(divide="ignore"):  # in the branch not taken
        kappa = np.where(a > 0, (a + root) / 2, 2 * gamma / (root - a))
    return Resolvent(eta, kappa, (kappa + gamma / kappa) / (1 + kappa))


def row_scale_curve(
    n_rows: Floats, dim: Floats, gamma: Floats, mean_norm_sq: Floats, inner: Floats, norm_sq: Floats
) -> RowScaleCurve:
    """The fine-tuned classifier's score.

    A special case of `general.row_scale_curve`, written out so that arrays of settings need no matrices.

    Args:
        n_rows: n, rows of the target.
        dim: p.
        gamma: γ, penalty of the fine-tuning.
        mean_norm_sq: m² = ‖μ_β‖², of the target's class mean.
        inner: c = E⟨w̃, μ_β⟩ of the source classifier.
        norm_sq: s = E‖w̃‖².

    **Source**: arXiv 2510.21345 for a known source; that a ridge source enters by c and s alone is ours.
    """
    eta, kappa, h = resolvent(n_rows, dim, gamma)
    m2, c, s = mean_norm_sq, inner, norm_sq
    lam, rest = m2 + 1 + kappa, 1 - h
    shared = (m2 + 1) / lam
    a0, a1 = m2 / lam, kappa * c / lam
    b0 = a0 / h * (shared - 2 * rest) + rest / h
    b1 = 2 * a1 / h * (shared - rest)
    b2 = kappa**2 / h * ((c / lam) ** 2 + rest / eta * (s + c**2 / lam * (m2 / lam - 2)))
    return RowScaleCurve(*np.broadcast_arrays(a0, a1, b0, b1, b2))
