"""The channel bound: an upper bound on the mutual information between a frozen layer and its adapter."""

import torch
from torch import Tensor

from loralaw.miub.block_sums import Means
from loralaw.miub.statistic import Statistic
from loralaw.miub.token_channel import divergence_of_mean
from loralaw.miub.token_chunk import TokenChunk


class ChannelBound(Statistic):
    """min(I(T;X), I(T;Y)), an upper bound on I(X;Y) for the categorical channels of a layer; in nats.

        X ~ p = softmax(z),   Y ~ q = softmax(u),   conditionally independent given the token T (uniform over tokens)
        I(T;X) = H(mean p) - mean H(p),   I(T;Y) = H(mean q) - mean H(q),   means over tokens

    **Why it bounds.** X and Y meet only in T: X - T - Y is a Markov chain. So I(X;Y) ≤ I(T;Y) (data processing: X is
    made from T), and by symmetry I(X;Y) ≤ I(T;X). It is ≥ 0 as H is concave, and at most log(min(tokens, d)).
    For u = 0 every q is uniform and the value is exactly 0: the adapter carries nothing.

    **What it is not.** It bounds the information of this categorical channel over the tokens seen, not of the
    real-valued z and u; as an estimate for all text it is low by up to about (d - 1) / 2n (mean q is a mean of n). It
    grows with the norm of u: read it beside `NormRatio`. Adding a constant to all features changes nothing; scaling
    them does.

    Of float32 features (and narrower ones) the two distributions are known to some 1e-7: values below that are
    rounding noise, whatever their standard error says. Of float64 features they are not.

    Memory: 32 d numbers for each cell, however many tokens.

    **Source**: the idea of such a bound is from arXiv 2501.03152; the definition is ours.

    >>> bound = ChannelBound()
    >>> z = u = 100.0 * torch.eye(4)  # four tokens, each of which settles both outputs: I(X;Y) = log 4
    >>> bound.update(z, u)
    >>> round(float(bound.value()), 6)
    1.386294
    """

    name = "channel"
    n_tokens_needed = 2  # one token carries no information, whatever the layer does

    def per_token(self, chunk: TokenChunk) -> dict[str, Tensor]:
        channel = chunk.channel
        return {"probability": channel.probability, "divergence": channel.divergence, "norm": chunk.norm}

    def value_of(self, mean: Means) -> Tensor:
        # I(T;X) and I(T;Y): H(mean p) - mean H(p) = mean KL(p ‖ uniform) - KL(mean p ‖ uniform)
        information = (mean["divergence"] - divergence_of_mean(mean["probability"])).clamp_min(0.0)
        nothing = mean["norm"] == 0.0  # all features are 0: exactly no information, whatever rounding says
        return torch.where(nothing, torch.zeros_like(information), information).amin(1)
