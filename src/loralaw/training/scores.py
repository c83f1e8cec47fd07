"""What a pack's cells make of the same rows, and how it is summed."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from loralaw.miub import LayerStatistics
from loralaw.tasks import NOT_SCORED
from loralaw.training.bucket import Bucket
from loralaw.training.head_loss import Head, ScoredTokens, token_scores
from loralaw.training.pack_pass import Probe

SCORE_TOKENS_PER_CELL = 1024
"""Tokens of each cell that are scored at once. Per cell, not per pack: how rows fall into blocks decides the last bits
of the sums, and a cell's numbers must not depend on its company."""


@dataclass(frozen=True)
class Scores:
    """Sums by cell and row; any mean, standard error or choice between rows can be made from them. On the CPU."""

    keys: tuple[str, ...]
    """The cells, in the order of the first dimension."""
    loss_sum: Tensor
    """Cross-entropy summed over a row's scored tokens, (K, R), float64, nats."""
    n_correct: Tensor
    """Scored tokens whose likeliest prediction is right, (K, R), int64."""
    n_scored: Tensor
    """Scored tokens of a row, (R,), int64."""


def row_blocks(ids: Tensor) -> Iterator[slice]:
    """Rows of (rows, length) token ids that go through a model together."""
    n_rows = max(1, SCORE_TOKENS_PER_CELL // ids.shape[1])
    return (slice(at, at + n_rows) for at in range(0, len(ids), n_rows))


def score_rows(hidden: Tensor, head: Head, labels: Tensor, keys: tuple[str, ...]) -> Scores:
    """Sum up a block of rows.

    Args:
        hidden: (K·R, length, hidden), the same R rows for each cell after the other.
        head: frozen.
        labels: (R, length) int64.
        keys: the K cells.
    """
    scored = ScoredTokens.of(labels.repeat(len(keys), 1))
    losses, hits = token_scores(hidden.flatten(0, 1)[scored.positions], head, scored.targets)
    # Back onto the grid, so that a row's sum has one order whatever the partners.
    loss_grid = torch.zeros(hidden.shape[:2], dtype=torch.float64, device=hidden.device)
    hit_grid = torch.zeros(hidden.shape[:2], dtype=torch.int64, device=hidden.device)
    loss_grid.view(-1)[scored.positions] = losses.double()
    hit_grid.view(-1)[scored.positions] = hits.long()
    shape = len(keys), len(labels)
    n_scored = (labels[:, 1:] != NOT_SCORED).sum(1)
    return Scores(keys, loss_grid.sum(1).view(shape).cpu(), hit_grid.sum(1).view(shape).cpu(), n_scored.cpu())


def join_rows(blocks: list[Scores]) -> Scores:
    """The scores of the blocks' rows, one block after the other."""
    return Scores(
        blocks[0].keys,
        torch.cat([block.loss_sum for block in blocks], dim=1),
        torch.cat([block.n_correct for block in blocks], dim=1),
        torch.cat([block.n_scored for block in blocks]),
    )


def statistics_probe(statistics: LayerStatistics, token_mask: Tensor, document: Tensor) -> Probe:
    """Hand each adapted layer's features to the statistics, at the real tokens only.

    Args:
        statistics: what to add to.
        token_mask: (R, length) of the rows that every cell is given, true at real tokens.
        document: (R,) int64, the document of each row: what the standard errors are clustered by.
    """
    sequence = document[:, None].expand_as(token_mask)[token_mask]
    real = None if bool(token_mask.all()) else token_mask.flatten().nonzero().squeeze(1)

    def report(layer: str, bucket: Bucket, base: Tensor, adapter: Tensor) -> None:
        if real is not None:
            tokens = real.to(base.device)
            base, adapter = base[:, tokens], adapter[:, tokens]
        statistics.update(layer, [cell.key for cell in bucket.cells], base, adapter, sequence)

    return report
