"""A source classifier that is a ridge fit of its own rows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from loralaw.errors import InputError
from loralaw.theory.arguments import Floats, check_broadcast, count, non_negative, positive, shown
from loralaw.theory.binary_target import BinaryTarget
from loralaw.theory.isotropic import resolvent, row_scale_curve
from loralaw.theory.prediction import Prediction


@dataclass(init=False, eq=False)
class RidgeSource:
    """w̃ = (X̃X̃ᵀ/N + γ̃I)⁻¹X̃ỹ/N of N rows x = yμ + z, z ~ N(0, I).

    Args:
        n_source: N, rows of the source.
        dim: p, features.
        mu_norm: ‖μ‖, half the distance between the class means.
        gamma_source: γ̃, penalty.

    All may be arrays that broadcast.

    Raises:
        InputError: an argument that cannot be, by name.

    **Source**: arXiv 2510.21345. **Departs from source**: the variance of w̃ is ours; the public code's is far
    too small where N is not much larger than p.

    >>> source = RidgeSource(n_source=2000, dim=400, mu_norm=1.2, gamma_source=1.0)
    >>> print(f"{source.predict().accuracy:.3f}")
    0.864
    """

    n_source: Floats
    dim: Floats
    mu_norm: Floats
    gamma_source: Floats

    def __init__(self, n_source: ArrayLike, dim: ArrayLike, mu_norm: ArrayLike, gamma_source: ArrayLike) -> None:
        self.n_source, self.dim = count("n_source", n_source), count("dim", dim)
        self.mu_norm, self.gamma_source = non_negative("mu_norm", mu_norm), positive("gamma_source", gamma_source)
        check_broadcast(**vars(self))

    def predict(self) -> Prediction:
        """Of the source classifier on fresh rows of its own task."""
        nothing = np.zeros(())
        own = self.n_source, self.dim, self.gamma_source, self.mu_norm**2
        return row_scale_curve(*own, inner=nothing, norm_sq=nothing).predict(0.0)

    def moments(self, target: BinaryTarget) -> tuple[Floats, Floats]:
        """c = E⟨w̃, μ_β⟩ = ⟨μ, μ_β⟩/λ̃ and s = E‖w̃‖² = mu²/λ̃² + V, V = (1 - h̃) times its risk.

        Raises:
            InputError: the target has another dimension or μ.
        """
        for name in ("dim", "mu_norm"):
            own, others = getattr(self, name), getattr(target, name)
            check_broadcast(**{f"{name} of the source": own, f"{name} of the target": others})
            if not np.all(own == others):
                raise InputError(
                    f"{name} is {shown(own)} in the source and {shown(others)} in the target: give both the same"
                )
        kappa, h, rest = resolvent(self.n_source, self.dim, self.gamma_source)
        mu2 = self.mu_norm**2
        lam = mu2 + 1 + kappa
        risk = (mu2 / lam**2 + ((1 + kappa) / lam) ** 2) / h
        return target.beta * mu2 / lam, mu2 / lam**2 + rest * risk
