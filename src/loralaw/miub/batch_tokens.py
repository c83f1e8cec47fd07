"""Which vectors of a layer's output belong to real tokens, and to which sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class BatchTokens:
    """The tokens of a batch of sequences."""

    mask: Tensor
    """(rows, length) bool: True for a token, False for padding."""
    first_sequence: int
    """The number of the first row's sequence; the other rows count on."""

    @property
    def n_tokens(self) -> int:
        return int(self.mask.sum())

    @property
    def n_sequences(self) -> int:
        """Rows with at least one token."""
        return int(self.mask.any(dim=1).sum())

    def of(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """The vectors that count.

        Args:
            features: tensors of one shape, features last. By that shape: (rows, length, d) and (rows · length, d) are
                the positions of the batch, and padding is left out; (1, length, d) is the same for every row, and
                counts for each (GPT-2's position embedding); (rows, d) is one vector a sequence (a pooler);
                (rows, ..., d) are positions of a row that are not its tokens (a convolution). In any other shape
                (tokens regrouped by expert, say) every vector counts, padding too, as a sequence of its own. Features
                with the length before the rows are of such a shape, but cannot be told apart where rows == length.

        Returns:
            Each as (tokens, d), and the (tokens,) int64 numbers of their sequences; None if each is its own.
        """
        rows, length = self.mask.shape
        if features[0].shape[:-1] == (1, length):
            features = [each.expand(rows, -1, -1) for each in features]
        leading = tuple(features[0].shape[:-1])
        flat = [each.reshape(-1, each.shape[-1]) for each in features]
        if leading in ((rows, length), (rows * length,)):
            return self._positions(flat)
        if leading[:1] == (rows,):
            each_row = torch.arange(rows, device=features[0].device) + self.first_sequence
            return flat, each_row.repeat_interleave(len(flat[0]) // max(rows, 1))
        return flat, None

    def _positions(self, flat: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        sequence, kept = self._sequence.to(flat[0].device), self._kept
        if kept is None:  # gathering copies: only where there is padding
            return flat, sequence
        kept = kept.to(flat[0].device)
        return [each.index_select(0, kept) for each in flat], sequence

    @cached_property
    def _kept(self) -> Tensor | None:
        return None if bool(self.mask.all()) else self.mask.flatten().nonzero().squeeze(1)

    @cached_property
    def _sequence(self) -> Tensor:
        rows, length = self.mask.shape
        every = (torch.arange(rows, device=self.mask.device) + self.first_sequence).repeat_interleave(length)
        return every if self._kept is None else every[self._kept]
