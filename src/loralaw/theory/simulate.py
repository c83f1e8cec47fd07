"""The settings of the theory, drawn and fitted, so that whoever doubts a formula can check it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve
from scipy.special import ndtr

from loralaw.errors import InputError
from loralaw.theory.arguments import Floats, one, one_count, one_seed, real, several, vector
from loralaw.theory.binary_target import BinaryTarget
from loralaw.theory.fine_tuning import FineTuning
from loralaw.theory.gaussian_target import GaussianTarget
from loralaw.theory.known import KnownSource
from loralaw.theory.known_vector import KnownVector
from loralaw.theory.on_rows import fine_tuned
from loralaw.theory.predict import checked_setting
from loralaw.theory.prediction import Prediction
from loralaw.theory.regression import Regression, RegressionPrediction
from loralaw.theory.ridge import RidgeSource

Rng = np.random.Generator
P = TypeVar("P", Prediction, RegressionPrediction)


@dataclass(frozen=True, eq=False)
class Simulation(Generic[P]):
    """Means over independent draws of all training rows; the fields have the shape of the row scales."""

    estimate: P
    standard_error: P
    n_replicates: int


@overload
def simulate(
    setting: FineTuning, row_scale: ArrayLike, *, n_replicates: int = ..., seed: int = ...
) -> Simulation[Prediction]: ...
@overload
def simulate(
    setting: Regression, row_scale: ArrayLike, *, n_replicates: int = ..., seed: int = ...
) -> Simulation[RegressionPrediction]: ...
def simulate(
    setting: FineTuning | Regression, row_scale: ArrayLike, *, n_replicates: int = 200, seed: int = 0
) -> Simulation[Any]:
    """Draw training rows, fit, and evaluate the fitted classifiers or maps exactly, without test rows.

    Args:
        setting: one setting, whose arguments are single numbers.
        row_scale: α, any shape; all of them are evaluated on the same draws.
        n_replicates: independent draws, from 2.
        seed: of the draws.

    Returns:
        Averages and their standard errors. Errors of different row scales are correlated.

    Raises:
        InputError: a setting of arrays, or a number that cannot be.

    **Cost.** A solve in min(n, p) dimensions a draw for the target and in min(N, p) for the source; of more rows than
    features only the moments are drawn (Bartlett's decomposition), so that many rows cost nothing.
    **Source**: ours.

    >>> from loralaw.theory import ridge_source
    >>> setting = ridge_source(n_source=1000, n_target=100, dim=100, mu_norm=1.0, mu_orth_norm=1.0, beta=0.5,
    ...                        gamma_source=1.0, gamma_target=1.0)
    >>> seen = simulate(setting, [0.0, 1.0], n_replicates=50)
    >>> bool(np.all(abs(seen.estimate.accuracy - setting.predict([0.0, 1.0]).accuracy) < 0.01))
    True
    """
    alpha = real("row_scale", row_scale)
    n = several("n_replicates", n_replicates)
    setting = checked_setting(setting)
    draw = _regression_draw(setting) if isinstance(setting, Regression) else _binary_draw(setting)
    generators = np.random.default_rng(one_seed("seed", seed)).spawn(n)
    try:
        draws = np.stack([draw(rng, alpha) for rng in generators])
    except np.linalg.LinAlgError:
        raise InputError(
            "a penalty of this setting is lost beside its means: give a larger gamma, or smaller means"
        ) from None
    kind = RegressionPrediction if isinstance(setting, Regression) else Prediction
    error = draws.std(axis=0, ddof=1) / np.sqrt(n)
    return Simulation(kind(*(x[()] for x in draws.mean(axis=0))), kind(*(x[()] for x in error)), n)


@dataclass(frozen=True, eq=False)
class Scores:
    """⟨w, x⟩ of fresh rows of each class, (row scales, rows)."""

    negative: Floats
    positive: Floats


def draw_scores(setting: FineTuning, row_scale: ArrayLike, *, n_rows: int = 2000, seed: int = 0) -> Scores:
    """Draw all training rows once, fit, and score fresh rows, of which half are of each class.

    Args:
        setting: one setting, whose arguments are single numbers.
        row_scale: α, a vector; all of them are scored on the same draw.
        n_rows: fresh rows, from 2.
        seed: of the draw.

    Raises:
        InputError: a setting of arrays, or a number that cannot be.

    **Source**: ours.
    """
    if not isinstance(setting, FineTuning):
        raise InputError(f"setting is a {type(setting).__name__}: give a FineTuning")
    alpha = vector("row_scale", row_scale)
    n_each = one_count("n_rows", n_rows) // 2
    if not n_each:
        raise InputError(f"n_rows={n_rows}: give at least 2, one of each class")
    rng = np.random.default_rng(one_seed("seed", seed))
    n_target, mean, factor, gamma = _target_rows(setting.target)
    from_target, from_source = _ridge(rng, n_target, mean, factor, gamma, _source(setting)(rng))
    weights = from_target + np.multiply.outer(alpha, from_source)
    negative, positive = (
        weights @ (label * mean + _through_rows(factor, rng.standard_normal((n_each, mean.size)))).T
        for label in (-1.0, 1.0)
    )
    return Scores(negative, positive)


def _binary_draw(setting: FineTuning) -> Callable[[Rng, Floats], Floats]:
    """What draws (mean, second moment, accuracy, risk) at row scales, (4, *row scales)."""
    n_target, mean, factor, gamma = _target_rows(setting.target)
    draw_source = _source(setting)

    def draw(rng: Rng, alpha: Floats) -> Floats:
        parts = _ridge(rng, n_target, mean, factor, gamma, draw_source(rng))
        means, spreads = parts @ mean, _through(factor, parts)
        score = means[0] + alpha * means[1]
        s = spreads @ spreads.T
        variance = s[0, 0] + 2 * alpha * s[0, 1] + alpha**2 * s[1, 1]
        second = variance + score**2
        return np.stack([score, second, ndtr(score / np.sqrt(variance)), second + 1 - 2 * score])

    return draw


def _ridge(rng: Rng, n_rows: int, mean: Floats, factor: Floats | None, gamma: float, source: Floats) -> Floats:
    """w₀ and w₁ of w_α = w₀ + αw₁, (2, p), of one draw of n rows yx ~ N(μ, LLᵀ)."""
    dim = mean.size
    if n_rows <= dim:
        rows = mean + _through_rows(factor, rng.standard_normal((n_rows, dim)))
        return fine_tuned(source, rows, np.ones(n_rows), gamma)
    # The mean and what scatters around it are independent; the latter is a Wishart matrix, from its Cholesky factor.
    moment = mean + _through_rows(factor, rng.standard_normal(dim)) / np.sqrt(float(n_rows))
    lower = np.tril(rng.standard_normal((dim, dim)), -1)
    lower[np.diag_indices(dim)] = np.sqrt(rng.chisquare(float(n_rows) - 1 - np.arange(dim)))
    root = lower if factor is None else factor @ lower
    second = root @ root.T / float(n_rows) + np.outer(moment, moment) + gamma * np.eye(dim)
    return np.asarray(cho_solve(cho_factor(second), np.stack([moment, gamma * source], axis=1)).T)


def _target_rows(target: BinaryTarget | GaussianTarget) -> tuple[int, Floats, Floats | None, float]:
    """n, μ, L with C = LLᵀ (None for the identity), γ."""
    if isinstance(target, GaussianTarget):
        return target.n_target, target.mean, _root(target.covariance), target.gamma_target
    n, dim, beta, mu, orth, gamma = _single(
        target, "n_target", "dim", "beta", "mu_norm", "mu_orth_norm", "gamma_target"
    )
    return int(n), _plane(int(dim), beta * mu, float(np.sqrt(1 - beta**2)) * orth), None, gamma


def _source(setting: FineTuning) -> Callable[[Rng], Floats]:
    """What draws w̃."""
    source, target = setting.source, setting.target
    if isinstance(source, KnownVector):
        return lambda rng: source.weights
    if isinstance(source, KnownSource):
        norm_sq, dot = _single(source, "norm_sq", "dot_target_mean")
        fixed = _vector_with(norm_sq, dot, _target_rows(target)[1])
        return lambda rng: fixed
    if isinstance(source, RidgeSource):
        n, dim, mu, gamma = _single(source, "n_source", "dim", "mu_norm", "gamma_source")
        n_source, mean, factor = int(n), _plane(int(dim), mu, 0.0), None
    else:
        n_source, mean, factor, gamma = source.n_source, source.mean, _root(source.covariance), source.gamma_source
    return lambda rng: _ridge(rng, n_source, mean, factor, gamma, mean)[0]


def _single(part: Any, *names: str) -> list[float]:
    """Attributes of a setting, none of which may be an array here."""
    return [one(name, getattr(part, name)) for name in names]


def _vector_with(norm_sq: float, dot: float, mean: Floats) -> Floats:
    """A vector of that squared norm and that inner product with a mean."""
    length = float(np.linalg.norm(mean))
    along = dot / length if length else 0.0
    across_sq = norm_sq - along**2
    frame = np.linalg.qr(np.column_stack([mean, *np.eye(2, len(mean))]))[0]  # its first axis is along the mean
    made: Floats = along * frame[:, 0] * np.sign(frame[:, 0] @ mean or 1.0)
    if across_sq > 0:
        if len(mean) < 2:
            raise InputError("dim=1: give at least 2, so that a source can point across the target's mean")
        made = made + np.sqrt(across_sq) * frame[:, 1]
    return made


def _plane(dim: int, along: float, across: float) -> Floats:
    """A vector in the plane of the first two axes."""
    made = np.zeros(dim)
    made[0] = along
    if across:
        if dim < 2:
            raise InputError("dim=1: give at least 2, so that there is a direction across the source's mean")
        made[1] = across
    return made


def _root(covariance: Floats) -> Floats:
    """L with C = LLᵀ."""
    return np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)


def _through(factor: Floats | None, vectors: Floats) -> Floats:
    """Lᵀv of each row, whose squares are vᵀCv."""
    return vectors if factor is None else vectors @ factor


def _through_rows(factor: Floats | None, noise: Floats) -> Floats:
    return noise if factor is None else noise @ factor.T


def _regression_draw(setting: Regression) -> Callable[[Rng, Floats], Floats]:
    """What draws the risk at row scales, (1, *row scales)."""
    n, dim, d = (int(number) for number in _single(setting, "n_target", "dim", "n_outputs"))
    gamma, noise_std, source_sq, target_sq, inner = _single(
        setting, "gamma", "noise_std", "source_norm_sq", "target_norm_sq", "source_target_inner"
    )
    # Only norms and inner product matter: both maps can have all of their weights in one output.
    source = _plane(dim, float(np.sqrt(source_sq)), 0.0)
    target = _vector_with(target_sq, inner, source)

    def draw(rng: Rng, alpha: Floats) -> Floats:
        rows, noise = rng.standard_normal((n, dim)), noise_std * rng.standard_normal((n, d))
        second = rows.T @ rows / n + gamma * np.eye(dim)
        of_noise = rows.T @ noise / n
        solved = np.linalg.solve(second, np.column_stack([gamma * target, gamma * source, of_noise]))
        left_target, left_source, fitted_noise = solved[:, 0], solved[:, 1], solved[:, 2:]
        first = left_target - np.multiply.outer(alpha, left_source) - fitted_noise[:, 0]
        others = float(np.sum(fitted_noise[:, 1:] ** 2))
        risk: Floats = ((first**2).sum(axis=-1) + others + noise_std**2 * d)[None]
        return risk

    return draw
