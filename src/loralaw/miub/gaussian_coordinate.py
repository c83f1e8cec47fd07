"""The contrastive log-ratio bound of Gaussian pairs, coordinate by coordinate."""

import torch
from torch import Tensor

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
    vary counts 0. Each sampled ρ² is high by about 1/n, so with few tokens the value is too (it stays a bound).

    Memory: 80 d numbers for each cell.

    **Source**: CLUB, arXiv 2006.12013, equation 4, for Gaussian pairs.
    """

    name = "gaussian_coordinate"
    n_tokens_needed = 3  # two tokens lie on a line in every coordinate

    def _sums_of(self, chunk: TokenChunk) -> dict[str, Tensor]:
        z, u = chunk.base.double(), chunk.adapter.double()
        return {name: chunk.sum(x) for name, x in (("z", z), ("u", u), ("zz", z * z), ("uu", u * u), ("zu", z * u))}

    def _value_of(self, mean: dict[str, Tensor]) -> Tensor:
        z, u = mean["z"], mean["u"]
        variance_z, variance_u = mean["zz"] - z * z, mean["uu"] - u * u
        varies = (variance_z > _rounding(mean["zz"])) & (variance_u > _rounding(mean["uu"]))
        product = torch.where(varies, variance_z * variance_u, torch.ones_like(z))
        squared = torch.where(varies, (mean["zu"] - z * u).square() / product, torch.zeros_like(z))
        squared = squared.clamp_max(LARGEST_NATS / (1.0 + LARGEST_NATS))
        value = (squared / (1.0 - squared)).mean(-1)
        broken = (mean["zz"] + mean["uu"]).sum(-1).isfinite().logical_not()  # a comparison with nan is false
        return torch.where(broken, torch.full_like(value, torch.nan), value)


def _rounding(second_moment: Tensor) -> Tensor:
    """What rounding can leave of the variance of a coordinate that does not vary."""
    return 1e-13 * second_moment
