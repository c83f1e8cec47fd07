"""The size of the adapter's output beside the base's: the control that every information measure must beat."""

import torch
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub.token_channel import check_enough_tokens, check_features, check_mergeable


class NormRatio:
    """‖u‖ / ‖z‖ = sqrt( Σ u² / Σ z² ), sums over all tokens and features; no unit.

    One ratio of the whole text, not a mean of ratios: long tokens weigh more, and a token with a tiny z cannot blow it
    up. 0 for u = 0, whatever z is. Infinite only where z is 0 on all tokens and u is not.

    Memory: two numbers for each leading index. Tokens may come in any order and any batches.

    **Source**: ours.

    >>> ratio = NormRatio()
    >>> ratio.update(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1.0]]))
    >>> float(ratio.value())
    0.2
    """

    def __init__(self) -> None:
        self.n_tokens = 0
        self._sums: tuple[Tensor, Tensor] | None = None

    def update(self, base: Tensor, adapter: Tensor) -> None:
        """Add tokens.

        Args:
            base: z, (..., tokens, d), any floating type.
            adapter: u, of the same shape.

        Raises:
            InputError: shapes differ, or differ from those of earlier updates.
        """
        check_features(base, adapter)
        new = _sum_of_squares(base), _sum_of_squares(adapter)
        if self._sums is not None and self._sums[0].shape != new[0].shape:
            raise InputError(
                f"earlier tokens had the leading shape {tuple(self._sums[0].shape)}, these have {tuple(new[0].shape)}: "
                "use one NormRatio for each group of cells"
            )
        self._add(new, base.shape[-2])

    def merge(self, other: "NormRatio") -> None:
        """Add the tokens that another has seen, for instance on another device or in another process."""
        if other._sums is None:
            return
        if self._sums is not None:
            check_mergeable(self._sums[0], other._sums[0], "NormRatio")
        self._add(other._sums, other.n_tokens)

    def value(self) -> Tensor:
        """The ratio, float64, of the leading shape.

        Raises:
            InputError: no token has been seen.
        """
        check_enough_tokens(self.n_tokens, 1, "NormRatio")
        assert self._sums is not None
        base, adapter = self._sums
        return torch.where(adapter == 0, torch.zeros_like(adapter), (adapter / base).sqrt())

    def _add(self, new: tuple[Tensor, Tensor], n_tokens: int) -> None:
        if self._sums is not None:
            device = self._sums[0].device
            new = self._sums[0] + new[0].to(device), self._sums[1] + new[1].to(device)
        self._sums = new
        self.n_tokens += n_tokens


def _sum_of_squares(features: Tensor) -> Tensor:
    """Over tokens and features, in float64 so that no narrow type overflows or stalls."""
    norm: Tensor = torch.linalg.vector_norm(features, dim=(-2, -1), dtype=torch.float64)
    return norm.square()
