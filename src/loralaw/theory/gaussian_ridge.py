"""A source classifier that is a ridge fit of its own rows, with any covariance."""

from dataclasses import dataclass
from functools import cached_property

from numpy.typing import ArrayLike

from loralaw.errors import InputError
from loralaw.theory.arguments import Floats, checked_covariance, one_count, one_positive, vector
from loralaw.theory.general import RidgeFit


@dataclass(init=False, eq=False)
class GaussianRidgeSource:
    """w̃ = (X̃X̃ᵀ/N + γ̃I)⁻¹X̃ỹ/N of N rows x = yμ + z, z ~ N(0, C).

    Args:
        n_source: N, rows of the source.
        mean: μ, (p,): half the difference of the source's class means.
        covariance: C, (p, p), within each class of the source.
        gamma_source: γ̃, penalty.

    Raises:
        InputError: an argument that cannot be, by name.

    **Source**: ours; see `loralaw.theory.general`.
    """

    n_source: int
    mean: Floats
    covariance: Floats
    gamma_source: float

    def __init__(self, n_source: int, mean: ArrayLike, covariance: ArrayLike, gamma_source: float) -> None:
        self.n_source = one_count("n_source", n_source)
        self.gamma_source = one_positive("gamma_source", gamma_source)
        self.mean = vector("mean", mean)
        self.covariance = checked_covariance("covariance", covariance, self.mean.size)

    @cached_property
    def fit(self) -> RidgeFit:
        return RidgeFit(self.n_source, self.mean, self.covariance, self.gamma_source)

    def mean_vector(self, dim: int) -> Floats:
        """E w̃, (p,)."""
        if self.mean.size != dim:
            raise InputError(f"mean has {self.mean.size} entries in the source and {dim} in the target: give the same")
        return self.fit.axes @ self.fit.target_only

    def scatter_within(self, fit: RidgeFit) -> float:
        """Tr(Cov(w̃)·RCR) with the target's RCR."""
        overlap = (fit.axes.T @ self.fit.axes) ** 2
        return self.fit.scatter() * float(fit.scatter_axes @ overlap @ self.fit.scatter_axes)
