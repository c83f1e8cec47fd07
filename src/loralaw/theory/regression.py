"""Fine-tuning a linear map of several outputs: the row scale that its risk is lowest at."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from loralaw.errors import InputError
from loralaw.theory.arguments import Floats, check_broadcast, count, non_negative, positive, real, shown
from loralaw.theory.isotropic import resolvent


@dataclass(frozen=True, eq=False)
class RegressionPrediction:
    """What the theory says of a fine-tuned map at some row scales."""

    risk: Floats
    """E‖y - ŴX‖² on a fresh row, summed over outputs, with the noise."""


@dataclass(frozen=True, eq=False)
class BestRegressionRowScale:
    """The row scale with the lowest risk; every field has the shape of the settings."""

    best: Floats
    risk_best: Floats
    risk_at_0: Floats
    risk_at_1: Floats


@dataclass(init=False, eq=False)
class Regression:
    """Fine-tuning of a linear map: y = W_t x + ε with x ~ N(0, I), Ŵ = αW_s + the ridge fit of what that leaves over.

    Args:
        n_target: n, rows to fine-tune on.
        dim: p, inputs.
        n_outputs: d.
        noise_std: σ of each output.
        gamma: γ, penalty of the fine-tuning.
        source_norm_sq: ‖W_s‖², the squares of all entries added up; above 0.
        target_norm_sq: ‖W_t‖².
        source_target_inner: ⟨W_t, W_s⟩.

    All may be arrays that broadcast. `loralaw.theory.regression` is another name for it.

    Raises:
        InputError: an argument that cannot be, by name, or an inner product above the product of the norms.

    **Source**: arXiv 2510.21345.

    >>> setting = Regression(n_target=20, dim=40, n_outputs=10, noise_std=0.5, gamma=0.01,
    ...                      source_norm_sq=4.0, target_norm_sq=5.0, source_target_inner=2.0)
    >>> best = setting.best_row_scale()
    >>> print(f"{best.best:.2f} {best.risk_best:.2f} {best.risk_at_1:.2f}")
    0.50 6.90 7.40
    """

    n_target: Floats
    dim: Floats
    n_outputs: Floats
    noise_std: Floats
    gamma: Floats
    source_norm_sq: Floats
    target_norm_sq: Floats
    source_target_inner: Floats

    def __init__(
        self,
        *,
        n_target: ArrayLike,
        dim: ArrayLike,
        n_outputs: ArrayLike,
        noise_std: ArrayLike,
        gamma: ArrayLike,
        source_norm_sq: ArrayLike,
        target_norm_sq: ArrayLike,
        source_target_inner: ArrayLike,
    ) -> None:
        self.n_target, self.dim = count("n_target", n_target), count("dim", dim)
        self.n_outputs, self.noise_std = count("n_outputs", n_outputs), non_negative("noise_std", noise_std)
        self.gamma = positive("gamma", gamma)
        self.source_norm_sq = positive("source_norm_sq", source_norm_sq)
        self.target_norm_sq = non_negative("target_norm_sq", target_norm_sq)
        self.source_target_inner = real("source_target_inner", source_target_inner)
        check_broadcast(**vars(self))
        most = np.sqrt(self.source_norm_sq) * np.sqrt(self.target_norm_sq)
        if np.any(np.abs(self.source_target_inner) > most * (1 + 1e-9)):
            raise InputError(
                f"source_target_inner={shown(self.source_target_inner)} is larger than the norms allow: give at most "
                f"sqrt(source_norm_sq * target_norm_sq), which is {shown(most)}"
            )

    def predict(self, row_scale: ArrayLike) -> RegressionPrediction:
        """risk = [(κ/(1 + κ))²(‖W_t‖² - 2α⟨W_t, W_s⟩ + α²‖W_s‖²) + σ²d]/h, with κ and h of the ridge fit.

        Args:
            row_scale: α, any shape that broadcasts with the setting.

        Raises:
            InputError: a row scale that is not finite, or shapes that do not broadcast.
        """
        alpha = real("row_scale", row_scale)
        check_broadcast(**vars(self), row_scale=alpha)
        return RegressionPrediction(self._risk(alpha)[()])

    def best_row_scale(self) -> BestRegressionRowScale:
        """α* = ⟨W_t, W_s⟩/‖W_s‖², whatever n, γ and the noise are."""
        at_0, at_1 = self._risk(np.zeros(())), self._risk(np.ones(()))
        best = np.broadcast_to(self.source_target_inner / self.source_norm_sq, at_0.shape)
        return BestRegressionRowScale(best[()], self._risk(best)[()], at_0[()], at_1[()])

    def _risk(self, alpha: Floats) -> Floats:
        kappa, h, _ = resolvent(self.n_target, self.dim, self.gamma)
        left_over = self.target_norm_sq - 2 * alpha * self.source_target_inner + alpha**2 * self.source_norm_sq
        risk: Floats = ((kappa / (1 + kappa)) ** 2 * left_over + self.noise_std**2 * self.n_outputs) / h
        return np.asarray(risk)


regression = Regression  # beside `ridge_source`
