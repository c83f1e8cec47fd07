"""How many directions an adapter really uses."""

import torch
from torch import Tensor

from loralaw.errors import InputError


def effective_rank(a: Tensor, b: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values of the product a @ b; between 1 and its rank, no unit.

        erank = exp( -Σ p_i log p_i ),   p_i = σ_i / Σ σ

    A scale in front of the product changes nothing. 0 for a product that is 0: an untrained adapter uses none. nan
    where a factor is not finite.

    Args:
        a: (..., in, r), any floating type.
        b: (..., r, out).

    Returns:
        (...), float64.

    Raises:
        InputError: shapes that cannot be multiplied.

    Cost: two thin factorisations and the singular values of an r × r matrix; the product itself is never made.

    **Source**: Roy and Vetterli, "The effective rank: a measure of effective dimensionality", 2007.

    >>> round(float(effective_rank(torch.eye(5, 3), torch.eye(3, 4))), 9)
    3.0
    """
    if a.dim() < 2 or b.dim() < 2 or a.shape[-1] != b.shape[-2]:
        raise InputError(f"a is {tuple(a.shape)} and b {tuple(b.shape)}: give (..., in, r) and (..., r, out)")
    # With a = Q R and bᵀ = P S, a b = Q (R Sᵀ) Pᵀ has the singular values of R Sᵀ.
    finite = a.isfinite().all(-1).all(-1) & b.isfinite().all(-1).all(-1)
    whole = finite[..., None, None]
    inner_a = torch.linalg.qr(torch.where(whole, a.double(), 0.0), mode="r").R
    inner_b = torch.linalg.qr(torch.where(whole, b.double(), 0.0).mT, mode="r").R
    singular = torch.linalg.svdvals(inner_a @ inner_b.mT)
    total = singular.sum(-1, keepdim=True)
    share = singular / torch.where(total == 0, torch.ones_like(total), total)
    rank = torch.special.entr(share).sum(-1).exp()
    rank = torch.where(total.squeeze(-1) == 0, torch.zeros_like(rank), rank)
    return torch.where(finite, rank, torch.full_like(rank, torch.nan))
