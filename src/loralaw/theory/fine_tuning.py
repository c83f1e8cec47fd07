"""A source that is fine-tuned on a target: what the row scale does to it."""

from dataclasses import dataclass
from functools import cached_property

from numpy.typing import ArrayLike

from loralaw.errors import InputError
from loralaw.theory.arguments import check_broadcast
from loralaw.theory.binary_target import BinaryTarget
from loralaw.theory.gaussian_ridge import GaussianRidgeSource
from loralaw.theory.gaussian_target import GaussianTarget
from loralaw.theory.isotropic import row_scale_curve
from loralaw.theory.known import KnownSource
from loralaw.theory.known_vector import KnownVector
from loralaw.theory.prediction import BestRowScale, Prediction
from loralaw.theory.ridge import RidgeSource
from loralaw.theory.row_scale_curve import RowScaleCurve

Source = RidgeSource | KnownSource | GaussianRidgeSource | KnownVector
Target = BinaryTarget | GaussianTarget


@dataclass(frozen=True, eq=False)
class FineTuning:
    """w_α = αw̃ + (XXᵀ/n + γI)⁻¹X(y - αXᵀw̃)/n: a ridge fit of what α times the source leaves over of the labels.

    Args:
        source: `RidgeSource` or `KnownSource` for a `BinaryTarget`, whose features are uncorrelated within a class;
            `GaussianRidgeSource` or `KnownVector` for a `GaussianTarget`.
        target: see there.

    Raises:
        InputError: a source and a target that do not go together.

    **Source**: arXiv 2510.21345; n, N and p go to infinity in fixed ratios, and are predicted well from about p = 100.
    **Departs from source**: the second moment of a ridge source is right (the public code's is not), accuracies are not
    folded (below 1/2 stays below), and any covariance is allowed.

    >>> setting = FineTuning(KnownSource(norm_sq=1.2, dot_target_mean=0.5), BinaryTarget(100, 400, 1.0, 1.0, 0.5, 1.0))
    >>> setting.predict([0.0, 1.0]).accuracy.round(3)
    array([0.66 , 0.686])
    >>> print(f"{setting.best_row_scale().best:.2f}")
    0.36
    """

    source: Source
    target: Target

    @cached_property
    def curve(self) -> RowScaleCurve:
        """Mean and variance of the score as polynomials in α."""
        source, target = self.source, self.target
        if isinstance(target, BinaryTarget) and isinstance(source, RidgeSource | KnownSource):
            check_broadcast(**{**vars(target), **vars(source)})
            inner, norm_sq = source.moments(target)
            own = target.n_target, target.dim, target.gamma_target, target.mean_norm_sq
            return row_scale_curve(*own, inner, norm_sq)
        if isinstance(target, GaussianTarget) and isinstance(source, GaussianRidgeSource | KnownVector):
            return target.curve(source)
        raise InputError(
            f"source={type(source).__name__} with target={type(target).__name__}: give a RidgeSource or KnownSource "
            "with a BinaryTarget, or a GaussianRidgeSource or KnownVector with a GaussianTarget"
        )

    def __post_init__(self) -> None:
        _ = self.curve

    def predict(self, row_scale: ArrayLike) -> Prediction:
        """Mean, second moment, accuracy and risk at row scales; see `RowScaleCurve.predict`."""
        return self.curve.predict(row_scale)

    def best_row_scale(self) -> BestRowScale:
        """The best row scale in closed form; see `RowScaleCurve.best_row_scale`."""
        return self.curve.best_row_scale()


def ridge_source(
    *,
    n_source: ArrayLike,
    n_target: ArrayLike,
    dim: ArrayLike,
    mu_norm: ArrayLike,
    mu_orth_norm: ArrayLike,
    beta: ArrayLike,
    gamma_source: ArrayLike,
    gamma_target: ArrayLike,
) -> FineTuning:
    """`FineTuning(RidgeSource(...), BinaryTarget(...))` from one list of numbers or arrays; see there."""
    return FineTuning(
        RidgeSource(n_source, dim, mu_norm, gamma_source),
        BinaryTarget(n_target, dim, mu_norm, mu_orth_norm, beta, gamma_target),
    )
