"""The Jensen-Shannon divergence between what a frozen layer and its adapter say about a token."""

import math

import torch
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub.token_channel import (
    TokenChannel,
    check_enough_tokens,
    check_features,
    check_mergeable,
    divergence_from_uniform,
    token_channel,
)


class JensenShannon:
    """Mean over tokens of JSD(softmax(z), softmax(u)) = H((p + q)/2) - (H(p) + H(q))/2; in nats, 0 to ln 2.

    **Why 0 ≤ jsd ≤ ln 2.** Toss a fair coin C and draw D from p or from q as it falls: JSD = I(C;D), and a mutual
    information is at least 0 and at most H(C) = ln 2. So it is the information that one draw carries about the branch
    it came from: 0 if both say the same, ln 2 if they never agree.

    **Read with care**: for an untrained adapter (u = 0) q is uniform and the value is the distance of the *base* from
    uniform, not 0. `ChannelBound` and `NormRatio` are 0 there. It bounds no other information.

    Memory: one number for each leading index. Tokens may come in any order and any batches.

    **Source**: arXiv 2501.03152 by its public summary (the divergence of the two components' distributions); the exact
    definition is ours.

    >>> divergence = JensenShannon()
    >>> divergence.update(100.0 * torch.eye(2), 100.0 * torch.eye(2).flip(0))  # never agree
    >>> round(float(divergence.value()), 6)
    0.693147
    """

    def __init__(self) -> None:
        self.n_tokens = 0
        self._sum: Tensor | None = None

    def update(self, base: Tensor, adapter: Tensor) -> None:
        """Add tokens.

        Args:
            base: z, (..., tokens, d), any floating type.
            adapter: u, of the same shape.

        Raises:
            InputError: shapes differ, or differ from those of earlier updates.
        """
        check_features(base, adapter)
        self.update_channels(token_channel(base), token_channel(adapter))

    def update_channels(self, base: TokenChannel, adapter: TokenChannel) -> None:
        """The same from channels made before, for callers who feed several statistics."""
        mixture = divergence_from_uniform((base.density + adapter.density).div_(2))
        divergence = (base.divergence + adapter.divergence) / 2 - mixture
        new = divergence.sum(-1, dtype=torch.float64)
        if self._sum is not None and self._sum.shape != new.shape:
            raise InputError(
                f"earlier tokens had the leading shape {tuple(self._sum.shape)}, these have {tuple(new.shape)}: "
                "use one JensenShannon for each group of cells"
            )
        self._add(new, base.density.shape[-2])

    def merge(self, other: "JensenShannon") -> None:
        """Add the tokens that another has seen, for instance on another device or in another process."""
        if other._sum is None:
            return
        if self._sum is not None:
            check_mergeable(self._sum, other._sum, "JensenShannon")
        self._add(other._sum, other.n_tokens)

    def value(self) -> Tensor:
        """The mean divergence in nats, float64, of the leading shape.

        Raises:
            InputError: no token has been seen.
        """
        check_enough_tokens(self.n_tokens, 1, "JensenShannon")
        assert self._sum is not None
        return (self._sum / self.n_tokens).clamp(0.0, math.log(2.0))

    def _add(self, new: Tensor, n_tokens: int) -> None:
        self._sum = new if self._sum is None else self._sum + new.to(self._sum.device)
        self.n_tokens += n_tokens
