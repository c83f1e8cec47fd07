"""A target task of two classes whose features are uncorrelated with variance 1 within each."""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from loralaw.theory.arguments import Floats, check_broadcast, cosine, count, non_negative, positive


@dataclass(init=False, eq=False)
class BinaryTarget:
    """Rows x = yμ_β + z with z ~ N(0, I) and μ_β = βμ + √(1 - β²)·μ⊥, μ⊥ ⟂ μ.

    Args:
        n_target: n, rows to fine-tune on.
        dim: p, features.
        mu_norm: ‖μ‖ of the source's task.
        mu_orth_norm: ‖μ⊥‖.
        beta: β, how far the target's mean lies along the source's.
        gamma_target: γ, penalty of the fine-tuning.

    All may be arrays that broadcast.

    Raises:
        InputError: an argument that cannot be, by name.

    **Source**: arXiv 2510.21345.
    """

    n_target: Floats
    dim: Floats
    mu_norm: Floats
    mu_orth_norm: Floats
    beta: Floats
    gamma_target: Floats

    def __init__(
        self,
        n_target: ArrayLike,
        dim: ArrayLike,
        mu_norm: ArrayLike,
        mu_orth_norm: ArrayLike,
        beta: ArrayLike,
        gamma_target: ArrayLike,
    ) -> None:
        self.n_target, self.dim = count("n_target", n_target), count("dim", dim)
        self.mu_norm, self.mu_orth_norm = non_negative("mu_norm", mu_norm), non_negative("mu_orth_norm", mu_orth_norm)
        self.beta, self.gamma_target = cosine("beta", beta), positive("gamma_target", gamma_target)
        check_broadcast(**vars(self))

    @property
    def mean_norm_sq(self) -> Floats:
        """‖μ_β‖²."""
        return (self.beta * self.mu_norm) ** 2 + (1 - self.beta**2) * self.mu_orth_norm**2
