"""The joint information of all coordinates, for Gaussian features with a noise floor."""

import torch
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub.block_sums import Means, PerToken
from loralaw.miub.statistic import Statistic
from loralaw.miub.token_chunk import MAX_FEATURES, TokenChunk


class GaussianNoise(Statistic):
    """I(z; u + ε) for jointly Gaussian z and u and noise ε ~ N(0, σ²1), from their covariances; in nats.

        I = ½ log det(Σ_u + σ²1) - ½ log det(Σ_u + σ²1 - Σ_uz Σ_z⁻¹ Σ_zu) = -½ Σ_i log(1 - c_i²)

    with c_i the canonical correlations of z and u + ε. u is a function of z's input, so without noise the information
    is infinite. The floor is relative: σ² = noise² · (mean variance of u's coordinates); so multiplying u by a constant
    changes nothing, and neither does any invertible linear map of z. Exactly 0 for u = 0.

    With few tokens the value is high, by about d²/2n for n ≫ d and several times that near n = d: n tokens in d
    dimensions look dependent by chance. With fewer tokens than dimensions it says nothing of either (it saturates, and
    can then lie below the truth): refused.

    Memory: 48 d² numbers for each cell; d at most `MAX_FEATURES`.

    Args:
        noise: standard deviation of the noise, as a share of u's root-mean-square standard deviation.

    **Source**: the mutual information of Gaussian vectors; the noise floor is ours.
    """

    name = "gaussian_noise"
    most_features = MAX_FEATURES

    def __init__(self, noise: float = 0.1) -> None:
        super().__init__()
        if not 0.0 < noise < float("inf"):
            raise InputError(f"noise is {noise}: give a share of u's standard deviation above 0, such as 0.1")
        self.noise = noise

    def per_token(self, chunk: TokenChunk) -> dict[str, PerToken]:
        z, u = chunk.base, chunk.adapter
        return {"first": chunk.features.double(), "zz": (z, z), "uu": (u, u), "zu": (z, u)}

    def value_of(self, mean: Means) -> Tensor:
        z, u = mean["first"].unbind(1)
        cov_z, cov_u = mean["zz"] - _outer(z, z), mean["uu"] - _outer(u, u)
        cov_zu = mean["zu"] - _outer(z, u)
        one = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
        variance_z, variance_u = _mean_diagonal(cov_z), _mean_diagonal(cov_u)
        # Rounding leaves a little of the variance of features that do not vary: then z or u says nothing.
        still_z = variance_z <= 1e-12 * _mean_diagonal(mean["zz"])
        still_u = variance_u <= 1e-12 * _mean_diagonal(mean["uu"])
        # Coordinates that do not vary have no inverse; what is added is 1e-10 of the mean variance.
        ridge = 1e-10 * torch.where(still_z, torch.ones_like(variance_z), variance_z)[:, None, None]
        explained = cov_zu.mT @ torch.linalg.solve(cov_z + ridge * one, cov_zu)
        floor = self.noise**2 * torch.where(still_u, torch.ones_like(variance_u), variance_u)[:, None, None]
        noisy = cov_u + floor * one
        information: Tensor = torch.linalg.slogdet(noisy)[1] - torch.linalg.slogdet(noisy - explained)[1]
        return torch.where(still_z | still_u, torch.zeros_like(information), information.clamp_min(0.0) / 2)

    def needs(self, n_features: int) -> int:
        return n_features + 2


def _outer(one: Tensor, other: Tensor) -> Tensor:
    return one.unsqueeze(-1) * other.unsqueeze(-2)


def _mean_diagonal(matrix: Tensor) -> Tensor:
    """(cells, d, d) -> (cells,)."""
    return matrix.diagonal(dim1=-2, dim2=-1).mean(-1)
