"""Tokens on their way into running sums: a few at a time, so that they stay in the processor's cache."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub.scratch import Scratch
from loralaw.miub.token_channel import TokenChannel, token_channel

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

MAX_FEATURES = 1024
"""Widest features of the estimators that keep matrices of features × features."""

CHUNK_NUMBERS, CHUNK_NUMBERS_ON_ACCELERATOR = 2**18, 2**22
"""Numbers of z in a chunk. On a processor its cache is the limit (measured best near 2^18), elsewhere memory alone."""
CHUNK_TOKENS = 2**13
"""Tokens of a chunk at most: a chunk is summed in its own type, and float32 sums of more would lose digits."""


@dataclass(frozen=True)
class TokenChunk:
    """Tokens of one cell; what several statistics need is computed once, and for z and u in one operation.

    It is valid until the next chunk is made, which uses the same memory.
    """

    features: Tensor
    """z and u, (2, tokens, features), float32, or float64 where the features were."""
    block: Tensor
    """(tokens,) int64: the number of each token's block of sequences."""
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
        return token_channel(self.features, self.work, _scratch_like(self.features, self.scratch, "probability"))

    @property
    def work(self) -> Tensor:
        """(2, tokens, features) to write intermediate numbers into; whoever comes next overwrites them."""
        return _scratch_like(self.features, self.scratch, "work")

    @cached_property
    def norm(self) -> Tensor:
        """‖z‖ and ‖u‖ of each token, (2, tokens)."""
        norm: Tensor = torch.linalg.vector_norm(self.features, dim=-1)
        return norm


def token_chunks(z: Tensor, u: Tensor, block: Tensor, scratch: Scratch) -> Iterator[TokenChunk]:
    """Cut the features of one cell into chunks; where they are cut does not depend on the cells beside it.

    Args:
        z: (tokens, features), any floating type.
        u: of the same shape.
        block: (tokens,) int64.
        scratch: the chunks' memory.
    """
    n_numbers = CHUNK_NUMBERS if z.device.type == "cpu" else CHUNK_NUMBERS_ON_ACCELERATOR
    n_at_once = max(1, min(CHUNK_TOKENS, n_numbers // z.shape[1]))
    for start in range(0, len(z), n_at_once):
        part = slice(start, start + n_at_once)
        yield TokenChunk(_widened(z[part], u[part], scratch), block[part], scratch)


def check_features(base: Tensor, adapter: Tensor) -> None:
    """Raise `InputError` unless both are (..., tokens, features) of one shape, dense, and of a type of `_FLOATS`."""
    for name, value in (("base", base), ("adapter", adapter)):
        if (
            not isinstance(value, Tensor)
            or value.dtype not in _FLOATS
            or value.layout != torch.strided
            or value.is_meta
        ):
            what = (
                f"{value.dtype}, {value.layout}, {value.device}" if isinstance(value, Tensor) else type(value).__name__
            )
            raise InputError(f"{name} is {what}: give a dense torch tensor of float16, bfloat16, float32 or float64")
    if base.shape != adapter.shape or base.dim() < 2 or 0 in (*base.shape[:-2], base.shape[-1]):
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


def _widened(z: Tensor, u: Tensor, scratch: Scratch) -> Tensor:
    kind = torch.promote_types(torch.promote_types(z.dtype, u.dtype), torch.float32)
    features = scratch.like("features", torch.Size([2, *z.shape]), kind, z.device)
    features[0], features[1] = z, u
    return features


def _scratch_like(features: Tensor, scratch: Scratch, role: str) -> Tensor:
    return scratch.like(role, features.shape, features.dtype, features.device)
