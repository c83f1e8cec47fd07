"""One forward and backward pass over the batches of all cells, which adds their gradients to the buckets."""

from collections.abc import Mapping, Sequence

import torch

from loralaw.tasks import NOT_SCORED
from loralaw.training.batch import Batch, pad_right
from loralaw.training.bucket import Bucket
from loralaw.training.head_loss import ScoredTokens, mean_losses
from loralaw.training.packed_base import PackedBase
from loralaw.training.packed_linear import Learns, PackPass


def add_gradients(
    base: PackedBase, buckets: Sequence[Bucket], batches: Mapping[str, Batch], pad_to: int, learns: Learns
) -> dict[str, float]:
    """Add the gradient of each cell's mean loss to its row of its bucket; adapter dropout is on.

    Args:
        base: the frozen base, with packed layers.
        buckets: all cells of the pass.
        batches: (ids, labels) of each cell, by key.
        pad_to: the length that they are padded to.
        learns: what gets a gradient.

    Returns:
        Each cell's mean loss over its scored tokens, nats a token.
    """
    keys = [cell.key for bucket in buckets for cell in bucket.cells]
    ids = torch.cat([pad_right(batches[key][0], pad_to, 0) for key in keys])
    labels = [pad_right(batches[key][1], pad_to, NOT_SCORED) for key in keys]
    n_scored = [int((part[:, 1:] != NOT_SCORED).sum()) for part in labels]
    scored = ScoredTokens.of(torch.cat(labels).to(base.device))
    lengths = {key: batches[key][0].shape[1] for key in keys}
    rows = [bucket.batch_size for bucket in buckets]
    hidden = base.run(ids, PackPass(buckets, rows, pad_to, base.dtype, dropout_lengths=lengths, learns=learns))
    losses = mean_losses(hidden.flatten(0, 1)[scored.positions], base.head, scored.targets, n_scored)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    return dict(zip(keys, losses.tolist(), strict=True))
