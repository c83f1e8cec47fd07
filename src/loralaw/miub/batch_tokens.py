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
                the positions of the batch, and padding is left out; more positions than length are padding that the
                model has added at the end (Longformer); (length, rows, d) is taken for the same (XLNet), but where
                rows == length the rows are thought to come first; (1, length, d) is the same for every row, and counts
                for each (GPT-2's position embedding); (rows, d) is one vector a sequence (a pooler), and (rows, ..., d)
                are positions that are not its tokens (a convolution): those of rows with a token count. In any other
                shape (tokens regrouped by expert, say) every vector counts, padding too, as a sequence of its own.

        Returns:
            Each as (tokens, d), and the (tokens,) int64 numbers of their sequences; None if each is its own.
        """
        rows, length = self.mask.shape
        features = [self._rows_first(each) for each in features]
        leading = tuple(features[0].shape[:-1])
        flat = [each.reshape(-1, each.shape[-1]) for each in features]
        if leading in ((rows, length), (rows * length,)):
            return self._positions(flat)
        if leading[:1] == (rows,):
            return self._of_rows(features)
        return flat, None

    def _rows_first(self, features: Tensor) -> Tensor:
        """(rows, length, d) of every layout that positions may have; what is none of them as it is."""
        if features.dim() != 3:
            return features
        (rows, length), (first, second) = self.mask.shape, features.shape[:2]
        if (first, second) == (1, length):
            return features.expand(rows, -1, -1)
        if first != rows == second and first >= length:
            features = features.transpose(0, 1)
        return features[:, :length] if len(features) == rows else features

    def _of_rows(self, features: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        kept = self.mask.any(1).nonzero().squeeze(1).to(features[0].device)
        of_tokens = [each.index_select(0, kept).flatten(0, -2) for each in features]
        n_each = len(of_tokens[0]) // max(len(kept), 1)
        return of_tokens, (kept + self.first_sequence).repeat_interleave(n_each)

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
