"""Rows of question trees that go through a model together, with the mask and the positions of their branches."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Cache, DynamicCache

from loralaw.tasks import QuestionTree
from loralaw.training import scores

MOST_KEPT = 8192
"""Tokens of a shared beginning, over the rows of a block of one cell: each row has a copy of keys and values."""


@dataclass(frozen=True)
class TreeRows:
    """Rows of trees that go through a model together: see `QuestionTree`."""

    ids: Tensor
    """(rows, length) int64, padded on the right."""
    positions: Tensor | None
    """(rows, length) int64; None where no tree forks: then tokens see all before them, as ever."""
    mask: Tensor | None
    """(rows, 1, length, tokens before and length) float32, 0 where a token sees another, else -inf; None as positions.
    """
    before: Cache | None = None
    """What attention keeps of the tokens that all rows begin with, which are not in ids, for each row of each cell."""

    @classmethod
    def of(cls, trees: Sequence[QuestionTree], n_before: int = 0, before: Cache | None = None) -> "TreeRows":
        """Pad trees to the longest of them.

        Args:
            trees: all of one beginning, where n_before is not 0.
            n_before: tokens of that beginning, which are left out.
            before: what attention keeps of these, once for each cell.
        """
        ids = padded([tree.ids[n_before:] for tree in trees], 0)
        if not n_before and not any(tree.n_branches > 1 for tree in trees):
            return cls(ids, None, None)
        branch = padded([tree.branch[n_before:] for tree in trees], -1)
        is_seen = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
        is_seen &= torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        is_seen |= torch.eye(ids.shape[1], dtype=torch.bool)  # padding, where no shared token is left in the row
        mask = torch.zeros(is_seen.shape).masked_fill_(~is_seen, -torch.inf)
        positions = padded([tree.positions[n_before:] for tree in trees], 0)
        kept = None if before is None else _for_each_row(before, len(trees))
        return cls(ids, positions, F.pad(mask, (n_before, 0))[:, None], kept)

    def to(self, device: torch.device) -> "TreeRows":
        """The same there."""
        mask, positions = (None if each is None else each.to(device) for each in (self.mask, self.positions))
        return TreeRows(self.ids.to(device), positions, mask, self.before)

    def repeated(self, n_times: int) -> "TreeRows":
        """All rows again and again; what is kept of the tokens before them is that of each cell already."""
        mask = None if self.mask is None else self.mask.repeat(n_times, 1, 1, 1)
        positions = None if self.positions is None else self.positions.repeat(n_times, 1)
        return TreeRows(self.ids.repeat(n_times, 1), positions, mask, self.before)


def tree_blocks(trees: Sequence[QuestionTree], n_before: int = 0) -> Iterator[list[int]]:
    """The numbers of trees that go through a model together: of about one length, so that little is padded."""
    block = list[int]()
    for i in sorted(range(len(trees)), key=lambda i: len(trees[i].ids)):
        is_full = (len(block) + 1) * (len(trees[i].ids) - n_before) > scores.SCORE_TOKENS_PER_CELL
        if block and (is_full or (len(block) + 1) * n_before > MOST_KEPT):
            yield block
            block = []
        block.append(i)
    if block:
        yield block


def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """(rows, length of the longest) int64."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (length - len(row))] for row in rows], dtype=torch.int64)


def _for_each_row(before: Cache, n_rows: int) -> Cache:
    """What is kept of a beginning for each cell, for each of so many rows of each cell."""
    repeated = DynamicCache()
    for number, layer in enumerate(before.layers):
        repeated.update(layer.keys.repeat_interleave(n_rows, 0), layer.values.repeat_interleave(n_rows, 0), number)
    return repeated
