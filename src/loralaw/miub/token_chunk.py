"""Tokens on their way into running sums: a few at a time, so that they stay in the processor's cache."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub.token_channel import TokenChannel, token_channel

N_BLOCKS = 16
"""Sequences are dealt into this many blocks, and sums are kept by block: enough for a standard error with a relative
error of about 1/√30, without keeping a number for every sequence."""

MAX_FEATURES = 1024
"""Widest features of the estimators that keep matrices of features × features."""

CHUNK_NUMBERS = {"cpu": 2**17}
"""Numbers of z in a chunk. On a processor about what its cache holds (measured best between 2^16 and 2^18); elsewhere
memory alone limits it."""
CHUNK_NUMBERS_ELSEWHERE = 2**25


@dataclass(frozen=True)
class TokenChunk:
    """Tokens of one cell; what several statistics need is computed once."""

    base: Tensor
    """z, (tokens, features), float32, or float64 where the features were."""
    adapter: Tensor
    """u, the same."""
    block: Tensor
    """(tokens,) int64 below N_BLOCKS."""
    cell: int
    """Its number among the cells."""
    leading: torch.Size
    """The leading dimensions of the features that it was cut from: the shape of the cells."""

    @cached_property
    def base_channel(self) -> TokenChannel:
        return token_channel(self.base)

    @cached_property
    def adapter_channel(self) -> TokenChannel:
        return token_channel(self.adapter)

    @cached_property
    def base_norm(self) -> Tensor:
        """‖z‖ of each token, (tokens,)."""
        return _norm(self.base)

    @cached_property
    def adapter_norm(self) -> Tensor:
        """‖u‖ of each token, (tokens,)."""
        return _norm(self.adapter)

    def sum(self, values: Tensor) -> Tensor:
        """Sums by block: (tokens, ...) -> (N_BLOCKS, ...), float64."""
        sums = values.new_zeros(N_BLOCKS, *values.shape[1:])
        return sums.index_add_(0, self.block, values).double()

    def sum_of_products(self, one: Tensor, other: Tensor) -> Tensor:
        """Sums by block of outer products: (tokens, i) and (tokens, j) -> (N_BLOCKS, i, j), float64."""
        sums = torch.zeros(N_BLOCKS, one.shape[1], other.shape[1], dtype=torch.float64, device=one.device)
        for number in set(self.block.tolist()):
            here = self.block == number
            sums[number] = one[here].double().T @ other[here].double()
        return sums


def token_chunks(base: Tensor, adapter: Tensor, sequence: Tensor | None, n_before: int) -> Iterator[TokenChunk]:
    """Cut features into chunks, cell by cell, so that a cell's sums do not depend on the cells beside it.

    Args:
        base: z, (..., tokens, features), any floating type; the leading dimensions are cells.
        adapter: u, of the same shape.
        sequence: (tokens,) int64, the same for every cell; None: every token is a sequence of its own.
        n_before: tokens seen in earlier calls, so that tokens without sequences go round the blocks.

    Raises:
        InputError: shapes or types that do not fit.
    """
    check_features(base, adapter)
    n_tokens, n_features = base.shape[-2:]
    if sequence is None:
        sequence = torch.arange(n_before, n_before + n_tokens)
    block = _checked(sequence, n_tokens).to(base.device) % N_BLOCKS
    leading = base.shape[:-2]
    by_cell = (leading.numel(), n_tokens, n_features)
    n_at_once = max(1, CHUNK_NUMBERS.get(base.device.type, CHUNK_NUMBERS_ELSEWHERE) // n_features)
    for cell, (z, u) in enumerate(zip(base.detach().reshape(by_cell), adapter.detach().reshape(by_cell), strict=True)):
        for start in range(0, n_tokens, n_at_once):
            part = slice(start, start + n_at_once)
            yield TokenChunk(_widened(z[part]), _widened(u[part]), block[part], cell, leading)


def check_features(base: Tensor, adapter: Tensor) -> None:
    """Raise `InputError` unless both are (..., tokens, features) of one shape and a floating type."""
    for name, value in (("base", base), ("adapter", adapter)):
        if not isinstance(value, Tensor) or not value.is_floating_point():
            what = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise InputError(f"{name} is {what}: give a floating-point torch tensor")
    if base.shape != adapter.shape or base.dim() < 2 or base.shape[-1] == 0:
        raise InputError(
            f"base has shape {tuple(base.shape)} and adapter {tuple(adapter.shape)}: "
            "both must be (..., tokens, features), of the same shape"
        )


def check_small(chunk: TokenChunk, name: str) -> None:
    """Raise `InputError` where a matrix of features × features would take too much memory."""
    if chunk.base.shape[-1] > MAX_FEATURES:
        raise InputError(
            f"{name} keeps matrices of features × features and takes at most {MAX_FEATURES} features, these are "
            f'{chunk.base.shape[-1]}: use "channel" or "gaussian_coordinate", or measure narrower layers only'
        )


def _checked(sequence: Tensor, n_tokens: int) -> Tensor:
    if not isinstance(sequence, Tensor) or sequence.dtype != torch.int64 or tuple(sequence.shape) != (n_tokens,):
        what = f"{sequence.dtype} {tuple(sequence.shape)}" if isinstance(sequence, Tensor) else type(sequence).__name__
        raise InputError(f"sequence is {what}: give an int64 tensor of shape ({n_tokens},), one number a token")
    if n_tokens and int(sequence.min()) < 0:
        raise InputError(f"sequence has the number {int(sequence.min())}: numbers of sequences begin at 0")
    return sequence


def _norm(features: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(features, dim=-1)
    return norm


def _widened(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))
