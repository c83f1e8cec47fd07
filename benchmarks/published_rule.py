"""The α-LoRA paper's rule for real data, in its own convention, right or wrong: what ours is compared with."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = tuple[Floats, Floats]


def published_row_scale(source: Rows, target: Rows, n_target: int, gamma_source: float, gamma_target: float) -> float:
    """α from the labels of all rows of source and target.

    μ̃² is the inner product of the two class means without its sign, β the projection on the source's mean, and the
    second moment of the ridge source has (1 - h̃)(1 - 2μ̃²/λ̃) where the variance of w̃ belongs. The length of the
    orthogonal part is multiplied with sqrt(1 - β²) once too often. What comes out is where mean/sd is stationary, which
    need not be its maximum.
    """
    (vector, mu2), (target_vector, _) = _means(*source), _means(*target)
    dim, beta = len(vector), float(vector @ target_vector) / mu2
    orth = float(np.linalg.norm(target_vector - beta * vector))
    m2 = beta**2 * mu2 + (1 - beta**2) * orth**2
    kappa_source, h_source = _fit(dim / len(source[1]), gamma_source)
    kappa, h = _fit(dim / n_target, gamma_target)
    lam_source, lam = mu2 + 1 + kappa_source, m2 + 1 + kappa
    c, s = beta * mu2 / lam_source, mu2 / lam_source**2 + (1 - h_source) * (1 - 2 * mu2 / lam_source)
    a0, a1, eta = m2 / lam, kappa * c / lam, dim / n_target
    b0 = a0 / h * ((m2 + 1) / lam - 2 * (1 - h)) + (1 - h) / h
    b1 = 2 * a1 * (1 - kappa / (h * lam))
    b2 = kappa**2 / h * ((c / lam) ** 2 + (1 - h) / eta * (s + c**2 / lam * (m2 / lam - 2)))
    return (2 * a1 * b0 - a0 * b1) / (2 * a0 * b2 - a1 * b1)


def _fit(eta: float, gamma: float) -> tuple[float, float]:
    """κ and h of a ridge fit, as published."""
    delta = (eta - gamma - 1 + np.sqrt((eta - gamma - 1) ** 2 + 4 * eta * gamma)) / (2 * gamma)
    kappa = gamma * (1 + delta)
    return float(kappa), float(1 - eta / (1 + kappa) ** 2)


def published_draw(n_rows: int, n_target: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training and test rows as the public code draws them, from numpy's global random state."""
    n_train = int(np.floor(n_target / n_rows * n_rows))
    order = np.random.permutation(n_rows)
    return order[n_rows - n_train :], order[: n_rows - n_train]


def _means(rows: Floats, labels: Floats) -> tuple[Floats, float]:
    """Half the difference of the class means, and ‖μ‖² as the public code takes it."""
    above, below = rows[labels > 0].mean(axis=0), rows[labels < 0].mean(axis=0)
    return (above - below) / 2, abs(float(above @ below))
