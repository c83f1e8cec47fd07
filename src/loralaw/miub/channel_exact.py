"""The exact mutual information of a layer's categorical channel: the reference for its bound."""

import torch
from torch import Tensor

from loralaw.miub.block_sums import Means, PerToken
from loralaw.miub.statistic import Statistic
from loralaw.miub.token_channel import divergence_of_mean
from loralaw.miub.token_chunk import MAX_FEATURES, TokenChunk


class ChannelExact(Statistic):
    """I(X;Y) of X ~ softmax(z), Y ~ softmax(u) with the joint distribution mean(p qᵀ) over tokens; in nats.

        I(X;Y) = KL( mean p qᵀ ‖ mean p ⊗ mean q )

    This is what `ChannelBound` bounds, over the same tokens. As an estimate for all text it is high where tokens are
    few: with one token for each pair of outcomes, every pair looks like a rule.

    Memory: 16 d² numbers for each cell; d at most `MAX_FEATURES`.

    **Source**: the definition of mutual information; the channel is ours.
    """

    name = "channel_exact"
    n_tokens_needed = 2
    most_features = MAX_FEATURES

    def per_token(self, chunk: TokenChunk) -> dict[str, PerToken]:
        p, q = chunk.features.double().softmax(-1)
        return {"joint": (p, q), "norms": chunk.norm.prod(0)}

    def value_of(self, mean: Means) -> Tensor:
        joint = mean["joint"]
        both = divergence_of_mean(joint.flatten(1))  # each against uniform: log d² = log d + log d
        information = (both - divergence_of_mean(joint.sum(2)) - divergence_of_mean(joint.sum(1))).clamp_min(0.0)
        # z or u was 0 for every token: exactly no information.
        return torch.where(mean["norms"] == 0.0, torch.zeros_like(information), information)
