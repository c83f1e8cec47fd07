"""The exact mutual information of a layer's categorical channel: the reference for its bound."""

import torch
from torch import Tensor

from loralaw.miub.statistic import Statistic
from loralaw.miub.token_channel import divergence_of_mean
from loralaw.miub.token_chunk import TokenChunk, check_small


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

    def _sums_of(self, chunk: TokenChunk) -> dict[str, Tensor]:
        check_small(chunk, self.name)
        p, q = chunk.base.double().softmax(-1), chunk.adapter.double().softmax(-1)
        spread = torch.stack([chunk.base_channel.spread, chunk.adapter_channel.spread], -1)
        return {"joint": chunk.sum_of_products(p, q), "spread": chunk.sum(spread)}

    def _value_of(self, mean: dict[str, Tensor]) -> Tensor:
        joint = mean["joint"]
        both = divergence_of_mean(joint.flatten(1))  # each against uniform: log d² = log d + log d
        information = (both - divergence_of_mean(joint.sum(2)) - divergence_of_mean(joint.sum(1))).clamp_min(0.0)
        uniform = mean["spread"].prod(-1) == 0.0  # X or Y uniform for every token: exactly no information
        return torch.where(uniform, torch.zeros_like(information), information)
