"""The α-LoRA paper's rule for real data, in its own convention, right or wrong: what ours is compared with."""

import numpy as np
from numpy.typing import NDArray

from loralaw.theory.isotropic import resolvent, row_scale_curve

Floats = NDArray[np.float64]
Rows = tuple[Floats, Floats]


def published_row_scale(source: Rows, target: Rows, n_target: int, gamma_source: float, gamma_target: float) -> float:
    """α from the labels of all rows of source and target.

    μ̃² is the inner product of the two class means without its sign, β the projection on the source's mean, and the
    second moment of the ridge source has (1 - h̃)(1 - 2μ̃²/λ̃) where the variance of w̃ belongs. The length of the
    orthogonal part is multiplied with sqrt(1 - β²) once too often.
    """
    (vector, mu2), (target_vector, _) = _means(*source), _means(*target)
    beta = float(vector @ target_vector) / mu2
    orth = float(np.linalg.norm(target_vector - beta * vector))
    dim = np.asarray(float(len(vector)))
    kappa, h, _ = resolvent(np.asarray(float(len(source[1]))), dim, np.asarray(gamma_source))
    lam = mu2 + 1 + kappa
    norm_sq = mu2 / lam**2 + (1 - h) * (1 - 2 * mu2 / lam)
    mean_norm_sq = np.asarray(beta**2 * mu2 + (1 - beta**2) * orth**2)
    n = np.asarray(float(n_target))
    curve = row_scale_curve(n, dim, np.asarray(gamma_target), mean_norm_sq, beta * mu2 / lam, norm_sq)
    with np.errstate(invalid="ignore"):  # that second moment may be below the squared mean
        return float(curve.best_row_scale().best)


def published_draw(n_rows: int, n_target: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Training and test rows as the public code draws them, from numpy's global random state."""
    n_train = int(np.floor(n_target / n_rows * n_rows))
    order = np.random.permutation(n_rows)
    return order[n_rows - n_train :], order[: n_rows - n_train]


def _means(rows: Floats, labels: Floats) -> tuple[Floats, float]:
    """Half the difference of the class means, and ‖μ‖² as the public code takes it."""
    above, below = rows[labels > 0].mean(axis=0), rows[labels < 0].mean(axis=0)
    return (above - below) / 2, abs(float(above @ below))
