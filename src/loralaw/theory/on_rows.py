"""Rows that someone has, in place of the theory's: what is measured on them, and the setting that describes them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loralaw.errors import InputError
from loralaw.theory.arguments import Floats, labels, matrix, one_count, one_positive, one_seed, several, vector
from loralaw.theory.fine_tuning import FineTuning
from loralaw.theory.gaussian_target import GaussianTarget
from loralaw.theory.known_vector import KnownVector

_LEAST_PENALTY = 1e-13  # of the mean square of a row
_NOTHING = 1e-10
"""Of the longest direction's mean square, below which another's is rounding."""


@dataclass(frozen=True, eq=False)
class Measured:
    """Accuracy on the rows that were not drawn, with the shape of the row scales."""

    accuracy: Floats
    standard_error: Floats
    """Of the mean over draws."""
    n_draws: int


def standardised(rows: ArrayLike) -> Floats:
    """Each column with mean 0 and variance 1; one that never varies becomes 0."""
    given = matrix("rows", rows)
    extent = np.ptp(given, axis=0)
    # Divided by their extent first, so that no square of a small number is lost.
    scaled = np.where(extent, (given - given.mean(axis=0)) / np.where(extent, extent, 1.0), 0.0)
    return np.asarray(scaled / np.where(extent, scaled.std(axis=0), 1.0), dtype=np.float64)


def fit_ridge(rows: ArrayLike, row_labels: ArrayLike, gamma: float) -> Floats:
    """w = (XXᵀ/n + γI)⁻¹Xy/n, (p,), of rows (n, p) and labels -1 and +1.

    Raises:
        InputError: an argument that cannot be, by name, or a penalty that is lost beside the rows.
    """
    x = matrix("rows", rows)
    y, penalty = labels("labels", row_labels, len(x)), one_positive("gamma", gamma)
    check_penalty("gamma", penalty, x)
    fitted: Floats = fine_tuned(np.zeros(x.shape[1]), x, y, penalty)[0]
    return fitted


def fine_tuned(source: Floats, rows: Floats, y: Floats, gamma: float) -> Floats:
    """w₀ and w₁ of w_α = w₀ + αw₁, (2, p): the ridge fit of n rows, and what is left of a source vector besides it.

    **Cost.** A solve in min(n, p) dimensions.
    """
    n, dim = rows.shape
    if n < dim:
        inside = np.linalg.solve(rows @ rows.T / n + gamma * np.eye(n), np.stack([y, rows @ source], axis=1))
        by_labels, by_source = (rows.T @ inside / n).T
        return np.stack([by_labels, source - by_source])
    second = rows.T @ rows / n + gamma * np.eye(dim)
    return np.asarray(np.linalg.solve(second, np.stack([rows.T @ y / n, gamma * source], axis=1)).T)


def check_penalty(name: str, gamma: float, rows: Floats) -> None:
    """Refuse a penalty that is lost in rounding beside the rows' squares.

    Raises:
        InputError: so it is.
    """
    least = _LEAST_PENALTY * float(np.sum(rows**2)) / len(rows)
    if gamma < least:
        raise InputError(f"{name}={gamma:g} is lost beside features as large as these: give at least {least:.2g}")


def measure_on_rows(
    weights: ArrayLike,
    rows: ArrayLike,
    row_labels: ArrayLike,
    row_scale: ArrayLike,
    *,
    n_target: int,
    gamma_target: float,
    n_draws: int = 40,
    seed: int = 0,
) -> Measured:
    """Fine-tune a source on some rows of a target and test on all others, many times.

    Args:
        weights: w̃ of the source, (p,).
        rows: of the target, (rows, p).
        row_labels: -1 or +1 a row.
        row_scale: α, a vector; all of them are tested on the same draws.
        n_target: n, rows to draw for fine-tuning; fewer than there are.
        gamma_target: γ, penalty of the fine-tuning.
        n_draws: from 2.
        seed: of the draws.

    Raises:
        InputError: an argument that cannot be, by name.

    **Cost.** A solve in n dimensions a draw, and a score of every row.
    **Source**: the experiment of arXiv 2510.21345. **Departs from source**: accuracies are not folded.
    """
    x = matrix("rows", rows)
    y, source = labels("labels", row_labels, len(x)), vector("weights", weights, x.shape[1])
    alpha, gamma = vector("row_scale", row_scale), one_positive("gamma_target", gamma_target)
    check_penalty("gamma_target", gamma, x)
    n = one_count("n_target", n_target)
    if n >= len(x):
        raise InputError(f"n_target={n}: give fewer than the {len(x):,} rows there are, so that some are left to test")
    times = several("n_draws", n_draws)
    generators = np.random.default_rng(one_seed("seed", seed)).spawn(times)
    draws = np.stack([_one_draw(rng.permutation(len(x)), n, x, y, source, alpha, gamma) for rng in generators])
    return Measured(draws.mean(axis=0), draws.std(axis=0, ddof=1) / np.sqrt(times), times)


def gaussian_setting(
    weights: ArrayLike, rows: ArrayLike, row_labels: ArrayLike, *, n_target: int, gamma_target: float
) -> FineTuning:
    """The target as Gaussian classes with the mean and the covariance of all of its rows, and the source as it is.

    The rows are centred, as `standardised` makes them: the theory's classes have the means μ and -μ.
    Directions in which no row has anything (columns that never vary, or repeat others) are left out: no classifier
    that is fitted to the rows sees them.

    Raises:
        InputError: an argument that cannot be, by name; fewer rows than a covariance takes.
    """
    x = matrix("rows", rows)
    y, source = labels("labels", row_labels, len(x)), vector("weights", weights, x.shape[1])
    lengths, axes = np.linalg.eigh(x.T @ x / len(x))
    seen = axes[:, lengths > _NOTHING * lengths[-1]]
    x = x @ seen
    if x.shape[1] == 0 or len(x) - 2 < x.shape[1]:
        raise InputError(
            f"rows has {len(x):,} rows, which vary in {x.shape[1]:,} directions: for their covariance give at least 2 "
            "rows more than that, and a direction"
        )
    means = [x[y == label].mean(axis=0) for label in (-1, 1)]
    centred = x - np.where(y[:, None] > 0, means[1], means[0])
    covariance = centred.T @ centred / (len(x) - 2)
    target = GaussianTarget(n_target, (means[1] - means[0]) / 2, covariance, gamma_target)
    return FineTuning(KnownVector(source @ seen), target)


def _one_draw(
    order: NDArray[np.int64], n: int, x: Floats, y: Floats, source: Floats, alpha: Floats, gamma: float
) -> Floats:
    """Accuracy at each row scale, fitted on the first n rows of the order and tested on the others."""
    parts = fine_tuned(source, x[order[:n]], y[order[:n]], gamma)
    rest = order[n:]
    scores = x[rest] @ parts.T
    right = (scores[:, 0] + np.multiply.outer(alpha, scores[:, 1])) * y[rest] > 0
    return np.asarray(right.mean(axis=-1), dtype=np.float64)
