"""The channel bound: an upper bound on the mutual information between a frozen layer and its adapter."""

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


class ChannelBound:
    """min(I(T;X), I(T;Y)), an upper bound on I(X;Y) for the categorical channels of a layer; in nats.

        X ~ p = softmax(z),   Y ~ q = softmax(u),   conditionally independent given the token T (uniform over tokens)
        I(T;X) = H(mean p) - mean H(p),   I(T;Y) = H(mean q) - mean H(q),   means over tokens

    **Why it bounds.** X and Y meet only in T: X - T - Y is a Markov chain. So I(X;Y) ≤ I(T;Y) (data processing: X is
    made from T), and by symmetry I(X;Y) ≤ I(T;X). It is ≥ 0 as H is concave, and at most log(min(tokens, d)).
    For u = 0 every q is uniform and the value is exactly 0: the adapter carries nothing.

    **What it is not.** It bounds the information of this categorical channel over the tokens seen, not of the
    real-valued z and u. It grows with the norm of u: read it beside `NormRatio`.

    Memory: 2 d numbers for each leading index, however many tokens. Tokens may come in any order and any batches.
    A leading index whose features are not finite has the value nan; the others are undisturbed.

    **Source**: the idea of such a bound is from arXiv 2501.03152; the definition is ours.

    >>> bound = ChannelBound()
    >>> z = u = 100.0 * torch.eye(4)  # four tokens, each of which settles both outputs: I(X;Y) = log 4
    >>> bound.update(z, u)
    >>> round(float(bound.value()), 6)
    1.386294
    """

    def __init__(self) -> None:
        self.n_tokens = 0
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}

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
        new = {"base": _sums(base), "adapter": _sums(adapter)}
        if self._sums and self._sums["base"][0].shape != new["base"][0].shape:
            raise InputError(
                f"earlier tokens had the shape {tuple(self._sums['base'][0].shape)} without the token dimension, "
                f"these have {tuple(new['base'][0].shape)}: use one ChannelBound for each layer"
            )
        self._add(new, base.density.shape[-2])

    def merge(self, other: "ChannelBound") -> None:
        """Add the tokens that another has seen, for instance on another device or in another process."""
        if self._sums and other._sums:
            check_mergeable(self._sums["base"][0], other._sums["base"][0], "ChannelBound")
        if other._sums:
            self._add(other._sums, other.n_tokens)

    def value(self) -> Tensor:
        """The bound in nats, float64, of the leading shape.

        Raises:
            InputError: fewer than two tokens; one token carries no information whatever the layer does.
        """
        check_enough_tokens(self.n_tokens, 2, "ChannelBound")
        return torch.minimum(self._information("base"), self._information("adapter"))

    def _information(self, side: str) -> Tensor:
        # H(mean p) - mean H(p) = mean KL(p ‖ uniform) - KL(mean p ‖ uniform)
        density, divergence = self._sums[side]
        n = self.n_tokens
        return (divergence / n - divergence_from_uniform(density / n)).clamp_min(0.0)

    def _add(self, new: dict[str, tuple[Tensor, Tensor]], n_tokens: int) -> None:
        for side, sums in new.items():
            if side in self._sums:
                density, divergence = self._sums[side]
                sums = density + sums[0].to(density.device), divergence + sums[1].to(density.device)
            self._sums[side] = sums
        self.n_tokens += n_tokens


def _sums(channel: TokenChannel) -> tuple[Tensor, Tensor]:
    """Sums over tokens of d·p, (..., d), and of KL(p ‖ uniform), (...), in float64."""
    return channel.density.sum(-2, dtype=torch.float64), channel.divergence.sum(-1, dtype=torch.float64)
