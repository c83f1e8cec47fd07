"""The row scale for real features, from a few labelled rows and many without labels."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from loralaw.errors import InputError
from loralaw.theory.arguments import Floats, labels, matrix, one, one_positive, real, vector
from loralaw.theory.fine_tuning import FineTuning
from loralaw.theory.gaussian_target import GaussianTarget
from loralaw.theory.known_vector import KnownVector
from loralaw.theory.on_rows import check_penalty, fine_tuned
from loralaw.theory.row_scale_curve import RowScaleCurve
from loralaw.theory.self_training import SelfTraining

Start = Literal["source", "target", "both"]

MOST_OF_THE_SOURCE = 100.0
"""Scores of αw₁ may be so many times those of w₀, where the maximum lies further out or the accuracy rises without
end."""

# In standard errors of the labelled rows' scores.
_TARGET_IS_BETTER = 2.0
_TARGET_MAY_BE_BETTER = 1.0
_SOURCE_IS_OF_USE = 1.0

_WEIGHT_OF_SOURCE = 2 / 3

_NOTHING = 1e-100  # of a weight, whose square would be lost


@dataclass(frozen=True, eq=False)
class FeatureAdvice:
    """What `from_features` found."""

    row_scale: float
    """α to use with these labelled rows."""
    curve: RowScaleCurve
    """Mean and variance of the score on fresh rows of the classifier fitted to these labelled rows, as a function
    of α: `advice.curve.predict(row_scale).accuracy`. Its maximum is better known than its height, which is more often
    too low than too high: by 4 to 5 points on average on Amazon reviews, whose scores are not Gaussian."""
    start: Start
    """Whose signs the soft labels began with: "source"; "target", the labelled rows alone, where they were clearly
    better; "both", the fine-tuned classifier of α = 1, where the labelled rows left it open."""
    t_source: float
    """How many standard errors the mean signed score of the source on the labelled rows is above 0."""
    t_target: float
    """How many standard errors a classifier of the labelled rows alone, each scored by a fit without it, is above the
    source on them."""

    source_weights: Floats
    """w̃, (p,)."""
    gamma_target: float
    """γ."""
    _parts: Floats
    _others: Floats
    _soft: Floats

    def weights(self, row_scale: float) -> Floats:
        """w_α, (p,), fitted to the labelled rows."""
        weights: Floats = self._parts[0] + one("row_scale", real("row_scale", row_scale)) * self._parts[1]
        return weights

    def setting(self, n_target: int) -> FineTuning:
        """The theory's setting with the estimated mean and covariance of the target: what to expect of n other labelled
        rows. O(p³)."""
        target = estimated_target(self._others, self._soft, n_target, self.gamma_target)
        return FineTuning(KnownVector(self.source_weights), target)


def from_features(
    source: ArrayLike | tuple[ArrayLike, ArrayLike],
    target: tuple[ArrayLike, ArrayLike],
    unlabelled: ArrayLike,
    *,
    gamma_source: float = 1.0,
    gamma_target: float = 1.0,
) -> FeatureAdvice:
    """Choose α from n labelled rows and rows without labels, and say what accuracy to expect.

    The soft labels t of the unlabelled rows (`self_training`) stand in for y. With the classifier w₀ + αw₁
    that the labelled rows give, the mean of t·⟨w, x⟩ and the mean of ⟨w, x⟩² over the unlabelled rows are the two
    moments that the theory's accuracy is made of, for these labelled rows and not for the average of all draws; α is
    the maximum in closed form.

    Features are taken as they are. There is no intercept: centre them, and best standardise them, each task by its own
    rows, as the classifier that α is for will see them.

    Args:
        source: the weights w̃ of the source classifier, (p,); or its rows and labels, ((N, p), (N,)), of which a ridge
            fit is made.
        target: the labelled rows of the target, ((n, p), (n,)); labels are -1 and +1.
        unlabelled: rows of the target without labels, (rows, p), none of the labelled ones among them. Some hundred.
        gamma_source: γ̃, penalty of the source's ridge fit.
        gamma_target: γ, penalty of the fine-tuning.

    Raises:
        InputError: an argument that cannot be, by name.

    **Cost.** O(p³ + rows·p² + n³).
    **Source**: ours. The paper (arXiv 2510.21345) puts the labels of all target rows into formulas for uncorrelated
    features; `benchmarks/results/row_scale_amazon.md` compares the two.

    >>> rng = np.random.default_rng(0)
    >>> y, mean = rng.choice([-1.0, 1.0], 1000), np.r_[np.ones(5), np.zeros(45)] * 0.6
    >>> x = y[:, None] * mean + rng.standard_normal((1000, 50))
    >>> advice = from_features(mean, (x[:20], y[:20]), x[20:])
    >>> print(f"{advice.start}, accuracy {advice.curve.predict(advice.row_scale).accuracy:.2f}")
    source, accuracy 0.93
    """
    penalty = one_positive("gamma_source", gamma_source)
    source_weights, rows, y, others = _checked(source, target, unlabelled, penalty)
    gamma = one_positive("gamma_target", gamma_target)
    check_penalty("gamma_target", gamma, np.concatenate([rows, others]))
    parts = fine_tuned(source_weights, rows, y, gamma)
    start, t_source, t_target = _start(y * (rows @ source_weights), y * _left_out(rows, y, gamma))
    training = SelfTraining(others, rows, y, gamma)
    soft = training.soft_labels({"source": source_weights, "target": parts[0], "both": parts.sum(axis=0)}[start])
    scores = others @ parts.T
    curve = _curve(scores, soft)
    if start == "source":  # whose labels favour it, as those that begin with what it is fine-tuned to favour that
        second = training.soft_labels(parts[0] + _best(curve) * parts[1])
        soft = _WEIGHT_OF_SOURCE * soft + (1 - _WEIGHT_OF_SOURCE) * second
        curve = _curve(scores, soft)
    return FeatureAdvice(_best(curve), curve, start, t_source, t_target, source_weights, gamma, parts, others, soft)


def _curve(scores: Floats, soft: Floats) -> RowScaleCurve:
    """Of unlabelled rows' scores by w₀ and w₁, (rows, 2), and their soft labels."""
    a0, a1 = scores.T @ soft / len(scores)
    second = scores.T @ scores / len(scores)
    variance = second[0, 0] - a0**2, 2 * (second[0, 1] - a0 * a1), second[1, 1] - a1**2
    return RowScaleCurve(*map(np.asarray, (a0, a1, *variance)))


def _best(curve: RowScaleCurve) -> float:
    """The best row scale, or the furthest where it is beyond."""
    of_target, of_source = np.sqrt(curve.v0 + curve.a0**2), np.sqrt(curve.v2 + curve.a1**2)
    furthest = MOST_OF_THE_SOURCE * of_target / of_source if of_source else 0.0
    return float(np.clip(curve.best_row_scale().best, -furthest, furthest))


def _checked(
    source: ArrayLike | tuple[ArrayLike, ArrayLike],
    target: tuple[ArrayLike, ArrayLike],
    unlabelled: ArrayLike,
    gamma: float,
) -> tuple[Floats, Floats, Floats, Floats]:
    """w̃, the labelled rows, their labels, and the other rows."""
    rows, y = _pair("target", target)
    dim = rows.shape[1]
    others = matrix("unlabelled", unlabelled, dim)
    if isinstance(source, tuple):
        source_rows, source_labels = _pair("source", source, dim)
        check_penalty("gamma_source", gamma, source_rows)
        weights = fine_tuned(np.zeros(dim), source_rows, source_labels, gamma)[0]
    else:
        weights = vector("source", source, dim)
    if np.abs(weights).max() < _NOTHING:
        raise InputError("source is the zero vector, or next to it: give the weights of a trained classifier")
    return weights, rows, y, others


def _pair(name: str, value: object, dim: int | None = None) -> tuple[Floats, Floats]:
    if not isinstance(value, tuple) or len(value) != 2:
        raise InputError(f"{name} is a {type(value).__name__}: give a tuple (features, labels)")
    rows = matrix(f"{name} features", value[0], dim)
    return rows, labels(f"{name} labels", value[1], len(rows))


def _left_out(rows: Floats, y: Floats, gamma: float) -> Floats:
    """The score of each row by a ridge fit of the others, (n,), in closed form."""
    inverse = np.linalg.inv(rows @ rows.T / len(y) + gamma * np.eye(len(y)))
    return np.asarray(y - inverse @ y / np.diag(inverse))


def _start(by_source: Floats, by_target: Floats) -> tuple[Start, float, float]:
    """Whose signs to begin with, from signed scores of the labelled rows, (n,) each."""
    source, target = (s / np.linalg.norm(s) if np.any(s) else s for s in (by_source, by_target))
    t_source, t_target = _standard_errors(source), _standard_errors(target - source)
    if t_target > _TARGET_IS_BETTER:
        return "target", t_source, t_target
    in_doubt = t_target > _TARGET_MAY_BE_BETTER or t_source < _SOURCE_IS_OF_USE
    return ("both" if in_doubt else "source"), t_source, t_target


def _standard_errors(values: Floats) -> float:
    mean, error = float(values.mean()), float(values.std(ddof=1)) / np.sqrt(len(values))
    if error == 0:
        return float(np.copysign(np.inf, mean)) if mean else 0.0
    return float(mean / error)


def estimated_target(rows: Floats, soft: Floats, n_target: int, gamma: float) -> GaussianTarget:
    """A target with the mean and covariance of rows, (rows, p), whose labels are known or believed, (rows,)."""
    mean = rows.T @ soft / len(rows)
    covariance = rows.T @ rows / len(rows) - np.outer(mean, mean)
    # Features that never vary, or more features than rows, leave it without an inverse, which the theory does not need.
    floor = 1e-6 * float(np.trace(covariance)) / len(mean)
    return GaussianTarget(n_target, mean, covariance + floor * np.eye(len(mean)), gamma)
