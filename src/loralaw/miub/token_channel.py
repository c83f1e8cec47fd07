"""Features read as a categorical channel: one distribution over the features for each token."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenChannel:
    """The distributions p = softmax(features) of some tokens."""

    probability: Tensor
    """p, (..., d)."""
    divergence: Tensor
    """KL(p ‖ uniform) = log d - H(p) of each token, (...), nats."""


def token_channel(features: Tensor, work: Tensor, probability: Tensor) -> TokenChannel:
    """p = softmax(features) and its divergence from uniform.

        log d - H(p) = Σ p (x - max x) + log(d · max p),   as log Σ exp(x - max x) = -log max p

    Against uniform, because small differences from uniform would be lost beside an entropy of log d.

    Args:
        features: x, (..., d), float32 or float64.
        work: of the same shape, overwritten.
        probability: of the same shape: where p is written.
    """
    shifted = torch.sub(features, features.amax(-1, keepdim=True), out=work)
    torch.softmax(shifted, -1, out=probability)
    largest = probability.amax(-1)
    divergence = shifted.mul_(probability).sum(-1) + largest.mul_(features.shape[-1]).log_()
    return TokenChannel(probability, divergence)


def divergence_of_mean(mean: Tensor) -> Tensor:
    """KL(p ‖ uniform) in nats of distributions p, (..., d) -> (...).

    As mean(m log m - m + 1) with m = d·p: the same for Σp = 1; where rounding has left Σp a little off, the relative
    error of the result is as small, also near 0.

    >>> divergence_of_mean(torch.tensor([0.5, 0.5]))
    tensor(0.)
    """
    density = mean * mean.shape[-1]
    smallest = torch.finfo(density.dtype).tiny  # 0·log 0 = 0, also in the gradient
    return (density * density.clamp_min(smallest).log() - density + 1.0).mean(-1)
