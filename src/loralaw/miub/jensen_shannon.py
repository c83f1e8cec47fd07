"""The Jensen-Shannon divergence between what a frozen layer and its adapter say about a token."""

import math

import torch
from torch import Tensor

from loralaw.miub.block_sums import Means
from loralaw.miub.statistic import Statistic
from loralaw.miub.token_channel import TokenChannel, token_channel
from loralaw.miub.token_chunk import TokenChunk


class JensenShannon(Statistic):
    """Mean over tokens of JSD(softmax(z), softmax(u)) = H((p + q)/2) - (H(p) + H(q))/2; in nats, 0 to ln 2.

    **Why 0 ≤ jsd ≤ ln 2.** Toss a fair coin C and draw D from p or from q as it falls: JSD = I(C;D), and a mutual
    information is at least 0 and at most H(C) = ln 2. So it is the information that one draw carries about the branch
    it came from: 0 if both say the same, ln 2 if they never agree.

    **Read with care**: for an untrained adapter (u = 0) q is uniform and the value is the distance of the *base* from
    uniform, not 0. `ChannelBound` and `NormRatio` are 0 there. It bounds no other information.

    Memory: 16 numbers for each cell.

    **Source**: arXiv 2501.03152 by its public summary (the divergence of the two components' distributions); the exact
    definition is ours.

    >>> divergence = JensenShannon()
    >>> divergence.update(100.0 * torch.eye(2), 100.0 * torch.eye(2).flip(0))  # never agree
    >>> round(float(divergence.value()), 6)
    0.693147
    """

    name = "jsd"

    def per_token(self, chunk: TokenChunk) -> dict[str, Tensor]:
        return {"divergence": _divergence(chunk.channel, chunk.work)}

    def value_of(self, mean: Means) -> Tensor:
        return mean["divergence"].clamp(0.0, math.log(2.0))


class StandardisedJensenShannon(JensenShannon):
    """`JensenShannon` of z and u after each token's features were brought to mean 0 and standard deviation 1.

    So it does not change when z or u is scaled or shifted, token by token. Features that are all equal (u = 0) stay 0:
    there the value is the distance of the standardised base from uniform.

    **Source**: ours.
    """

    name = "jsd_standardised"

    def per_token(self, chunk: TokenChunk) -> dict[str, Tensor]:
        standardised = _standardised(chunk.features)
        channel = token_channel(standardised, chunk.work, torch.empty_like(standardised))
        return {"divergence": _divergence(channel, chunk.work)}


def _divergence(channel: TokenChannel, work: Tensor) -> Tensor:
    """JSD of each token, (tokens,): the mean of the two divergences from uniform, less that of the mixture."""
    p, q = channel.probability
    mixture, density = work
    torch.lerp(p, q, 0.5, out=mixture)
    smallest = p.new_full((), torch.finfo(p.dtype).tiny)  # 0·log 0 = 0
    torch.add(smallest, mixture, alpha=p.shape[-1], out=density)
    of_mixture: Tensor = density.log_().mul_(mixture).sum(-1)
    return channel.divergence.mean(0) - of_mixture


def _standardised(features: Tensor) -> Tensor:
    largest = features.abs().amax(-1, keepdim=True)
    scaled = features / torch.where(largest == 0, torch.ones_like(largest), largest)  # or tiny features underflow
    centred = scaled - scaled.mean(-1, keepdim=True)
    deviation = centred.square().mean(-1, keepdim=True).sqrt()
    flat = deviation <= 4 * torch.finfo(features.dtype).eps  # what rounding leaves of equal features is no spread
    return torch.where(flat, torch.zeros_like(centred), centred / deviation)
