"""Forward and backward passes over the batches of all cells, which add their gradients to the buckets."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from loralaw.tasks import NOT_SCORED
from loralaw.training.batch import Batch, pad_right
from loralaw.training.bucket import Bucket
from loralaw.training.head_loss import ScoredTokens, mean_losses
from loralaw.training.pack_pass import Learns, PackPass
from loralaw.training.packed_base import PackedBase


def add_gradients(
    base: PackedBase,
    buckets: Sequence[Bucket],
    batches: Mapping[str, Batch],
    pad_to: int,
    learns: Learns,
    n_micro_batches: int,
) -> dict[str, float]:
    """Add the gradient of each cell's mean loss to its row of its bucket; adapter dropout is on.

    Every cell's batch goes through in equal parts, one after the other: the activations are those of one part, the loss
    is the mean over the scored tokens of all, and dropout drops what it drops in the whole batch.

    Args:
        base: the frozen base, with packed layers.
        buckets: all cells of the pass.
        batches: (ids, labels) of each cell, by key.
        pad_to: the length that they are padded to.
        learns: what gets a gradient.
        n_micro_batches: the number of parts.

    Returns:
        Each cell's mean loss over its scored tokens, nats a token.
    """
    cells = [cell for bucket in buckets for cell in bucket.cells]
    n_scored = torch.stack([_n_scored(batches[cell.key][1]) for cell in cells]).to(base.device)
    lengths = {cell.key: batches[cell.key][0].shape[1] for cell in cells}
    dropout = {cell: cell.dropout_generator.get_state() for cell in cells}
    losses = torch.zeros(len(cells), device=base.device)
    for part in range(n_micro_batches):
        if part > 0:  # every part draws for the whole batch, and takes its rows
            for cell, state in dropout.items():
                cell.dropout_generator.set_state(state)
        parts = [_part(batches[cell.key], part, n_micro_batches) for cell in cells]
        rows = [bucket.batch_size // n_micro_batches for bucket in buckets]
        current = PackPass(buckets, rows, pad_to, base.dtype, dropout_lengths=lengths, micro_batch=part, learns=learns)
        own = _share_of_loss(base, current, parts, n_scored)
        own.sum().backward()  # type: ignore[no-untyped-call]
        losses += own.detach()
    return dict(zip((cell.key for cell in cells), losses.tolist(), strict=True))


def _share_of_loss(base: PackedBase, current: PackPass, parts: Sequence[Batch], n_scored: Tensor) -> Tensor:
    """What a part of every cell's batch adds to its mean loss over `n_scored` tokens, (K,) float32."""
    ids = torch.cat([pad_right(ids, current.length, 0) for ids, _ in parts])
    labels = [pad_right(own, current.length, NOT_SCORED) for _, own in parts]
    counts = [int(_n_scored(own)) for own in labels]
    scored = ScoredTokens.of(torch.cat(labels).to(base.device))
    hidden = base.run(ids, current)
    losses = mean_losses(hidden.flatten(0, 1)[scored.positions], base.head, scored.targets, counts)
    share = torch.tensor(counts, device=base.device) / n_scored
    return torch.where(share > 0, losses * share, 0.0)  # a part without a scored token has no mean


def _part(batch: Batch, part: int, n_parts: int) -> Batch:
    ids, labels = batch
    n_rows = len(ids) // n_parts
    rows = slice(part * n_rows, (part + 1) * n_rows)
    return ids[rows], labels[rows]


def _n_scored(labels: Tensor) -> Tensor:
    return (labels[:, 1:] != NOT_SCORED).sum()
