"""A number made from sums over tokens: how all our statistics stream, merge, and get their standard errors."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub.estimator import Estimate
from loralaw.miub.token_chunk import N_BLOCKS, TokenChunk, token_chunks

N_TOKENS = "n_tokens"


class Statistic(ABC):
    """f(S̄), a function of means over tokens. A subclass says what is summed (`_sums_of`) and what f is (`_value_of`).

    Sums are kept in float64 for `N_BLOCKS` blocks of whole sequences. So any split or order of the tokens gives the
    same value, and two processes are merged by addition. The standard error is the delta method's, clustered by block,
    with the gradient of f from autograd:

        ψ_b = ∇f(S̄) · (S_b - n_b S̄) / n,   stderr² = B/(B-1) Σ_b ψ_b²      (B blocks that have tokens)

    Sequences of different blocks are taken as independent; the tokens of a sequence need not be. With 16 blocks the
    standard error itself is uncertain by about 18 %.

    Leading dimensions of the features ("cells") are independent measurements; one whose features are not finite has the
    value nan and does not disturb the others.

    **Source**: ours; the delta method for clustered ratio estimators.
    """

    name: ClassVar[str]
    n_tokens_needed: ClassVar[int] = 1

    def __init__(self) -> None:
        self._leading = torch.Size()
        self._n_features = 0
        self._sums: dict[str, Tensor] = {}

    @abstractmethod
    def _sums_of(self, chunk: TokenChunk) -> dict[str, Tensor]:
        """Sums by block of a chunk's tokens, each (N_BLOCKS, ...), float64."""

    @abstractmethod
    def _value_of(self, mean: dict[str, Tensor]) -> Tensor:
        """The value, (cells,), from the means over tokens, each (cells, ...); differentiable."""

    @property
    def n_tokens(self) -> int:
        """Tokens seen of each cell."""
        return int(self._sums[N_TOKENS][0].sum()) if self._sums else 0

    def update(self, base: Tensor, adapter: Tensor, sequence: Tensor | None = None) -> None:
        """Add tokens.

        Args:
            base: z, (..., tokens, features), any floating type; the leading dimensions are independent cells.
            adapter: u, of the same shape.
            sequence: (tokens,) int64, at least 0: the number of each token's sequence; None: every token is its own.

        Raises:
            InputError: shapes differ, or differ from those of earlier updates.
        """
        for chunk in token_chunks(base, adapter, sequence, self.n_tokens):
            self.add(chunk)

    @torch.no_grad()
    def add(self, chunk: TokenChunk) -> None:
        """Add a chunk; for callers who feed several statistics with the same one."""
        self._check_like_before(chunk.leading, chunk.base.shape[-1])
        ones = torch.ones(chunk.block.shape, dtype=torch.float64, device=chunk.block.device)
        for name, sums in (self._sums_of(chunk) | {N_TOKENS: chunk.sum(ones)}).items():
            if name not in self._sums:
                self._sums[name] = sums.new_zeros(chunk.leading.numel(), *sums.shape)
            self._sums[name][chunk.cell] += sums

    def merge(self, other: Self) -> None:
        """Add the tokens that another has seen, for instance on another device or in another process.

        Raises:
            InputError: the other is of another kind or another shape.
        """
        if type(other) is not type(self):
            raise InputError(f"cannot merge {type(self).__name__} with {type(other).__name__}: merge two of one kind")
        if other._sums:
            self._check_like_before(other._leading, other._n_features)
            mine = self._sums or {name: torch.zeros_like(sums) for name, sums in other._sums.items()}
            self._sums = {name: sums + other._sums[name].to(sums.device) for name, sums in mine.items()}

    def value(self) -> Tensor:
        """The value, float64, of the leading shape.

        Raises:
            InputError: too few tokens.
        """
        self._check_enough()
        n_tokens = self._sums[N_TOKENS][0].sum()
        return self._value_of({name: sums.sum(1) / n_tokens for name, sums in self._sums.items()}).view(self._leading)

    def influence(self) -> Tensor:
        """ψ_b, what each block's sequences have moved the value by, float64, (..., N_BLOCKS); 0 for an empty block.

        Raises:
            InputError: too few tokens.
        """
        self._check_enough()
        with torch.inference_mode(False), torch.enable_grad():
            counts = self._sums[N_TOKENS][0].clone()
            n_tokens = counts.sum()
            means = {name: (sums.sum(1) / n_tokens).clone().requires_grad_() for name, sums in self._sums.items()}
            value = self._value_of(means).sum()
            names, inputs = zip(*means.items(), strict=True)
            gradients = torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)
        influence = torch.zeros(self._leading.numel(), N_BLOCKS, dtype=torch.float64, device=counts.device)
        for name, gradient in zip(names, gradients, strict=True):
            by_block, mean = self._sums[name].reshape(*influence.shape, -1), means[name].detach()
            centred = by_block - counts[:, None] * mean.reshape(len(influence), 1, -1)
            # Not a matrix product: its last bits would depend on the number of cells.
            influence += (centred * gradient.reshape(len(influence), 1, -1)).sum(-1) / n_tokens
        return influence.view(*self._leading, N_BLOCKS)

    def n_blocks(self) -> int:
        """Blocks that have tokens."""
        return int((self._sums[N_TOKENS][0] > 0).sum()) if self._sums else 0

    def stderr(self) -> Tensor:
        """The standard error, float64, of the leading shape; nan where all tokens are of one sequence.

        Raises:
            InputError: too few tokens.
        """
        return stderr_of(self.influence(), self.n_blocks())

    def result(self) -> Estimate:
        """The estimate, where there are no leading dimensions.

        Raises:
            InputError: too few tokens, features that are not finite, or leading dimensions.
        """
        if self._leading:
            raise InputError(f"result() is for (tokens, features); these had {tuple(self._leading)} in front")
        value, stderr = float(self.value()), float(self.stderr())
        if value != value:
            raise InputError("the features hold nan or infinite numbers: nothing can be estimated from them")
        return Estimate(self.name, value, None if stderr != stderr else stderr, self.n_tokens)

    def _check_like_before(self, leading: torch.Size, n_features: int) -> None:
        if not self._sums:
            self._leading, self._n_features = leading, n_features
        elif (leading, n_features) != (self._leading, self._n_features):
            raise InputError(
                f"earlier tokens had {self._n_features} features and the leading shape {tuple(self._leading)}, these "
                f"have {n_features} and {tuple(leading)}: use and merge one {type(self).__name__} for each layer"
            )

    def _check_enough(self) -> None:
        if self.n_tokens < self._needed():
            raise InputError(
                f"{self.name} has seen {self.n_tokens} token{'' if self.n_tokens == 1 else 's'} and needs at least "
                f"{self._needed()}: give it more text"
            )

    def _needed(self) -> int:
        return self.n_tokens_needed


def stderr_of(influence: Tensor, n_blocks: int) -> Tensor:
    """sqrt(B/(B-1) Σ ψ²) over the last dimension, nan for fewer than two blocks.

    The influence of a mean of several statistics of the same sequences is the mean of their influences.
    """
    if n_blocks < 2:
        return torch.full(influence.shape[:-1], torch.nan, dtype=influence.dtype)
    return (influence.square().sum(-1) * (n_blocks / (n_blocks - 1))).sqrt()
