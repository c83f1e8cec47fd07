"""The direction of the adapter's output beside the base's."""

import torch
from torch import Tensor

from loralaw.miub.block_sums import Means
from loralaw.miub.statistic import Statistic
from loralaw.miub.token_chunk import TokenChunk


class Cosine(Statistic):
    """Mean over tokens of z·u / (‖z‖ ‖u‖): -1 to 1, no unit. A token where z or u is 0 counts 0.

    Positive where the adapter strengthens what the base says, negative where it takes it back, near 0 where it writes
    in other directions. Unchanged when z or u is multiplied by a constant.

    Memory: 16 numbers for each cell.

    **Source**: ours.

    >>> cosine = Cosine()
    >>> cosine.update(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[-3.0, 0.0], [0.0, 0.0]]))
    >>> float(cosine.value())
    -0.5
    """

    name = "cosine"

    def per_token(self, chunk: TokenChunk) -> dict[str, Tensor]:
        base, adapter = chunk.norm
        product = torch.mul(chunk.base, chunk.adapter, out=chunk.work[0]).sum(-1)
        cosine = product / base / adapter  # one after the other: ‖z‖‖u‖ may leave the type's range
        return {"cosine": cosine.masked_fill((chunk.norm == 0).any(0), 0.0)}

    def value_of(self, mean: Means) -> Tensor:
        return mean["cosine"].clamp(-1.0, 1.0)
