"""The contrastive log-ratio bound of Gaussian pairs, coordinate by coordinate."""

import torch
from torch import Tensor

from loralaw.miub.block_sums import Means
from loralaw.miub.statistic import Statistic
from loralaw.miub.token_chunk import TokenChunk

LARGEST_NATS = 1e6
"""What a coordinate counts whose correlation is 1 up to rounding: the bound itself is infinite there."""


class GaussianCoordinate(Statistic):
    """Mean over coordinates of ρ²/(1-ρ²), ρ the correlation of z and u in that coordinate over tokens; in nats.

    **What it bounds.** The contrastive log-ratio bound E[log p(u|z)] - E_z E_u[log p(u|z)] is at least I(z;u) for any
    joint distribution. For a Gaussian pair it is ρ²/(1-ρ²), where I = -½ log(1-ρ²). That the first is at least the
    second is also seen directly: with x = ρ²/(1-ρ²), 1-ρ² = 1/(1+x), and ½ log(1+x) ≤ x. So the value bounds the
    mean over coordinates of the information in each Gaussian pair; not the joint information of all coordinates, and
    nothing where the pairs are not Gaussian.

    Unchanged when z or u is multiplied by a constant, coordinate by coordinate. 0 for u = 0: a coordinate that does not
    vary counts 0. With n tokens a coordinate is high by about (1 + 2ρ²) / (n (1 - ρ²)) on average; one coordinate of
    one sample can lie below its truth.

    Memory: 80 d numbers for each cell.

    **Source**: CLUB, arXiv 2006.12013, equation 4, for Gaussian pairs.
    """

    name = "gaussian_coordinate"
    n_tokens_needed = 3  # two tokens lie on a line in every coordinate

    def per_token(self, chunk: TokenChunk) -> dict[str, Tensor]:
        both = chunk.features.double()
        return {"first": both, "second": both.square(), "product": both.prod(0, keepdim=True)}

    def value_of(self, mean: Means) -> Tensor:
        first, second = mean["first"], mean["second"]
        variance = second - first.square()
        # More than rounding can leave of the variance of a coordinate that does not vary.
        varies = (variance > 1e-13 * second).all(1)
        covariance = mean["product"].squeeze(1) - first.prod(1)
        squared = covariance.square() / torch.where(varies, variance.prod(1), torch.ones_like(covariance))
        squared = torch.where(varies, squared, torch.zeros_like(squared))
        squared = squared.clamp_max(LARGEST_NATS / (1.0 + LARGEST_NATS))
        value = (squared / (1.0 - squared)).mean(-1)
        broken = second.sum((1, 2)).isfinite().logical_not()  # a comparison with nan is false
        return torch.where(broken, torch.full_like(value, torch.nan), value)
