"""Features read as a categorical channel: one distribution over the features for each token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from loralaw.errors import InputError


@dataclass(frozen=True)
class TokenChannel:
    """The distributions p = softmax(features), measured against the uniform one.

    Against uniform, because then features that are all equal (an untrained adapter's zeros) give exactly 1 and exactly
    0 below, and small differences from uniform are not lost beside an entropy of log d.
    """

    density: Tensor
    """d·p, (..., tokens, d); float32, or float64 where the features were."""
    divergence: Tensor
    """KL(p ‖ uniform) = log d - H(p) of each token, (..., tokens), nats."""


def token_channel(features: Tensor) -> TokenChannel:
    """p = softmax(features) of each token, as d·p, and its divergence from uniform, log d - H(p).

    Args:
        features: (..., tokens, d), any floating type; types narrower than float32 are widened to it.
    """
    shifted = features.to(torch.promote_types(features.dtype, torch.float32))
    shifted = shifted - shifted.amax(-1, keepdim=True)
    density = shifted.exp()
    mean = density.mean(-1, keepdim=True)
    density = density.div_(mean)
    log_density = shifted.sub_(mean.log())
    return TokenChannel(density, torch.linalg.vecdot(density, log_density) / features.shape[-1])


def divergence_from_uniform(density: Tensor) -> Tensor:
    """KL(p ‖ uniform) in nats of p = density / d along the last dimension; 0·log 0 = 0.

    >>> divergence_from_uniform(torch.tensor([1.0, 1.0]))
    tensor(0.)
    """
    smallest = torch.finfo(density.dtype).tiny  # vectorised, unlike torch.xlogy, and exact at 0
    return (density * density.clamp_min(smallest).log()).mean(-1)


def check_features(base: Tensor, adapter: Tensor) -> None:
    """Raise `InputError` unless both are (..., tokens, features) of one shape and a floating type."""
    if base.shape != adapter.shape or base.dim() < 2 or base.shape[-1] == 0:
        raise InputError(
            f"base has shape {tuple(base.shape)} and adapter {tuple(adapter.shape)}: "
            "both must be (..., tokens, features), of the same shape"
        )
    if not (base.is_floating_point() and adapter.is_floating_point()):
        raise InputError(f"base is {base.dtype} and adapter {adapter.dtype}: give floating-point tensors")


def check_enough_tokens(n_tokens: int, needed: int, statistic: str) -> None:
    """Raise `InputError` unless a statistic has seen the tokens it needs."""
    if n_tokens < needed:
        raise InputError(
            f"{statistic} has seen {n_tokens} token{'' if n_tokens == 1 else 's'} and needs at least {needed}: "
            "update it with more text"
        )


def check_mergeable(mine: Tensor, other: Tensor, statistic: str) -> None:
    """Raise `InputError` unless two running sums have the same shape."""
    if mine.shape != other.shape:
        raise InputError(
            f"cannot merge two {statistic} of shapes {tuple(mine.shape)} and {tuple(other.shape)}: "
            "merge statistics of the same cells and the same layer"
        )
