"""Tokens on their way into running sums: a few at a time, so that they stay in the processor's cache."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub.scratch import Scratch
from loralaw.miub.token_channel import TokenChannel, token_channel

N_BLOCKS = 16
"""Sequences are dealt into this many blocks, and sums are kept by block: enough for a standard error with a relative
error of about 1/√30, without keeping a number for every sequence."""

MAX_FEATURES = 1024
"""Widest features of the estimators that keep matrices of features × features."""

CHUNK_NUMBERS = {"cpu": 2**18}
"""Numbers of z in a chunk. On a processor about what its cache holds (measured best near 2^18); elsewhere
memory alone limits it."""
CHUNK_NUMBERS_ELSEWHERE = 2**22


@dataclass(frozen=True)
class TokenChunk:
    """Tokens of one cell; what several statistics need is computed once, and for z and u in one operation.

    It is valid until the next chunk is made, which uses the same memory.
    """

    features: Tensor
    """z and u, (2, tokens, features), float32, or float64 where the features were."""
    block: Tensor
    """(tokens,) int64 below N_BLOCKS."""
    cell: int
    """Its number among the cells."""
    leading: torch.Size
    """The leading dimensions of the features that it was cut from: the shape of the cells."""
    scratch: Scratch

    @property
    def base(self) -> Tensor:
        """z, (tokens, features)."""
        return self.features[0]

    @property
    def adapter(self) -> Tensor:
        """u, (tokens, features)."""
        return self.features[1]

    @cached_property
    def channel(self) -> TokenChannel:
        """softmax(z) and softmax(u)."""
        return token_channel(self.features, self.work, _like(self.features, self.scratch, "probability"))

    @property
    def work(self) -> Tensor:
        """(2, tokens, features) to write intermediate numbers into; whoever comes next overwrites them."""
        return _like(self.features, self.scratch, "work")

    @cached_property
    def norm(self) -> Tensor:
        """‖z‖ and ‖u‖ of each token, (2, tokens)."""
        norm: Tensor = torch.linalg.vector_norm(self.features, dim=-1)
        return norm


def token_chunks(
    base: Tensor, adapter: Tensor, sequence: Tensor | None, n_before: int, scratch: Scratch
) -> Iterator[TokenChunk]:
    """Cut features into chunks, cell by cell, so that a cell's sums do not depend on the cells beside it.

    Args:
        base: z, (..., tokens, features), any floating type; the leading dimensions are cells.
        adapter: u, of the same shape.
        sequence: (tokens,) int64, the same for every cell; None: every token is a sequence of its own.
        n_before: tokens seen in earlier calls, so that tokens without sequences go round the blocks.
        scratch: the chunks' memory.

    Raises:
        InputError: shapes or types that do not fit.
    """
    check_features(base, adapter)
    n_tokens, n_features = base.shape[-2:]
    if sequence is None:
        sequence = torch.arange(n_before, n_before + n_tokens)
    block = _block_of(check_sequence(sequence, n_tokens)).to(base.device)
    leading = base.shape[:-2]
    by_cell = (leading.numel(), n_tokens, n_features)
    n_at_once = max(1, CHUNK_NUMBERS.get(base.device.type, CHUNK_NUMBERS_ELSEWHERE) // n_features)
    for cell, (z, u) in enumerate(zip(base.detach().reshape(by_cell), adapter.detach().reshape(by_cell), strict=True)):
        for start in range(0, n_tokens, n_at_once):
            part = slice(start, start + n_at_once)
            yield TokenChunk(_widened(z[part], u[part], scratch), block[part], cell, leading, scratch)


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


def check_sequence(sequence: Tensor, n_tokens: int) -> Tensor:
    """The sequence numbers, if they are (tokens,) int64 and not negative; else raise `InputError`."""
    if not isinstance(sequence, Tensor) or sequence.dtype != torch.int64 or tuple(sequence.shape) != (n_tokens,):
        what = f"{sequence.dtype} {tuple(sequence.shape)}" if isinstance(sequence, Tensor) else type(sequence).__name__
        raise InputError(f"sequence is {what}: give an int64 tensor of shape ({n_tokens},), one number a token")
    if n_tokens and int(sequence.min()) < 0:
        raise InputError(f"sequence has the number {int(sequence.min())}: numbers of sequences begin at 0")
    return sequence


def _block_of(sequence: Tensor) -> Tensor:
    """A block for each sequence number: evenly for consecutive numbers, and for any other regular numbering too.

    Fibonacci hashing: the top four bits of the number times 2^64/φ, in wrapping arithmetic.
    """
    return ((sequence * -7046029254386353131) >> 60) & (N_BLOCKS - 1)


def _widened(z: Tensor, u: Tensor, scratch: Scratch) -> Tensor:
    kind = torch.promote_types(torch.promote_types(z.dtype, u.dtype), torch.float32)
    features = scratch.like("features", torch.Size([2, *z.shape]), kind, z.device)
    features[0], features[1] = z, u
    return features


def _like(features: Tensor, scratch: Scratch, role: str) -> Tensor:
    return scratch.like(role, features.shape, features.dtype, features.device)
