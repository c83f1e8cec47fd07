"""The size of the adapter's output beside the base's: the control that every information measure must beat."""

import torch
from torch import Tensor

from loralaw.miub.block_sums import Means
from loralaw.miub.statistic import Statistic
from loralaw.miub.token_chunk import TokenChunk


class NormRatio(Statistic):
    """‖u‖ / ‖z‖ = sqrt( Σ u² / Σ z² ), sums over all tokens and features; no unit.

    One ratio of the whole text, not a mean of ratios: long tokens weigh more, and a token with a tiny z cannot blow it
    up. 0 for u = 0, whatever z is. Infinite only where z is 0 on all tokens and u is not.

    Memory: 32 numbers for each cell.

    **Source**: ours.

    >>> ratio = NormRatio()
    >>> ratio.update(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1.0]]))
    >>> float(ratio.value())
    0.2
    """

    name = "norm_ratio"

    def per_token(self, chunk: TokenChunk) -> dict[str, Tensor]:
        return {"squares": chunk.norm.double().square()}  # float32 squares of norms would overflow

    def value_of(self, mean: Means) -> Tensor:
        base, adapter = mean["squares"].unbind(1)
        nothing = adapter == 0
        ratio = (torch.where(nothing, torch.ones_like(adapter), adapter) / base).sqrt()  # sqrt has no gradient at 0
        return torch.where(nothing, torch.zeros_like(ratio), ratio)
