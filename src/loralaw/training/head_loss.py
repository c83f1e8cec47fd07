"""Cross-entropy straight from hidden states: the logits of a few tokens at a time, so never tokens × vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from loralaw.tasks import NOT_SCORED

CHUNK_TOKENS, SOFTMAX_TOKENS = 256, 64
"""Scored tokens whose logits exist at once: enough for a full-speed product; and those whose softmax is made at once:
few enough that their float32 numbers stay in cache."""
_RARE = 1e-30  # below this a float32 softmax has lost digits


@dataclass(frozen=True)
class Head:
    """A frozen output head in the type of the products."""

    weight: Tensor
    """(vocabulary, hidden)"""
    bias: Tensor | None

    def logits(self, hidden: Tensor) -> Tensor:
        """(at most CHUNK_TOKENS, hidden) -> (CHUNK_TOKENS, vocabulary), in the type of the products.

        Always so many rows: how a product sums depends on their number too, and a cell's bits would on its company.
        """
        rows = F.pad(hidden.to(self.weight.dtype), (0, 0, 0, CHUNK_TOKENS - len(hidden)))
        return F.linear(rows, self.weight, self.bias)


@dataclass(frozen=True)
class ScoredTokens:
    """The positions of a batch whose next token is scored, in row order."""

    positions: Tensor
    """Indices into (rows·length), int64."""
    targets: Tensor
    """The token that follows each, int64."""

    @classmethod
    def of(cls, labels: Tensor) -> "ScoredTokens":
        """labels: (rows, length), where label t is predicted at t - 1, so the first label of a row is never scored."""
        targets = F.pad(labels[:, 1:], (0, 1), value=NOT_SCORED).reshape(-1)
        positions = (targets != NOT_SCORED).nonzero().squeeze(1)
        return cls(positions, targets[positions])


def mean_losses(hidden: Tensor, head: Head, targets: Tensor, n_tokens_of_cells: Sequence[int]) -> Tensor:
    """Each cell's mean cross-entropy in nats a token, (K,) float32, differentiable in `hidden`.

    Args:
        hidden: (tokens, hidden), the scored positions only, a cell after the other.
        head: frozen.
        targets: (tokens,) int64.
        n_tokens_of_cells: how many of the tokens belong to each cell.
    """
    losses: Tensor = _MeanLosses.apply(hidden, head, targets, list(n_tokens_of_cells))  # type: ignore[no-untyped-call]
    return losses


def token_scores(hidden: Tensor, head: Head, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(cross-entropy in nats, float32; whether the likeliest token is the target, bool) of each token."""
    losses = torch.empty(len(targets), device=hidden.device)
    hits = torch.empty_like(targets, dtype=torch.bool)
    for chunk in _slices(0, len(targets), CHUNK_TOKENS):
        logits = head.logits(hidden[chunk])
        for block in _slices(chunk.start, chunk.stop, SOFTMAX_TOKENS):
            of_block = logits[block.start - chunk.start : block.stop - chunk.start]
            _, losses[block] = _softmax(of_block, targets[block])
            hits[block] = of_block.max(-1).indices == targets[block]
    return losses, hits


def token_losses(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    """The first of `token_scores`, for less: the likeliest token is not looked for."""
    losses = torch.empty(len(targets), device=hidden.device)
    for chunk in _slices(0, len(targets), CHUNK_TOKENS):
        logits = head.logits(hidden[chunk])
        for block in _slices(chunk.start, chunk.stop, SOFTMAX_TOKENS):
            of_block = logits[block.start - chunk.start : block.stop - chunk.start]
            _, losses[block] = _softmax(of_block, targets[block])
    return losses


def _slices(start: int, stop: int, length: int) -> list[slice]:
    return [slice(at, min(at + length, stop)) for at in range(start, stop, length)]


def _softmax(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(softmax, -log softmax of the targets) of a few tokens, in float32."""
    probabilities = logits.softmax(-1, dtype=torch.float32)  # one kernel; log-softmax and exp would be two
    of_target = probabilities.gather(1, targets[:, None]).squeeze(1)
    losses = -of_target.log()
    # Token by token: a partner's token in the same chunk must not change how this one is computed.
    rare = (of_target < _RARE).nonzero().squeeze(1)
    if len(rare):
        exact = logits[rare].log_softmax(-1, dtype=torch.float32)
        losses[rare] = -exact.gather(1, targets[rare, None]).squeeze(1)
    return probabilities, losses


class _MeanLosses(torch.autograd.Function):
    """The head is frozen, so the gradient of the hidden states is made in the same pass as the loss."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, targets: Tensor, n_tokens_of_cells: list[int]) -> Tensor:
        losses = torch.empty(len(targets), device=hidden.device)
        gradient = torch.empty_like(hidden)
        counts = torch.tensor(n_tokens_of_cells, device=hidden.device)
        weights = counts.float().reciprocal().repeat_interleave(counts)
        for chunk in _slices(0, len(targets), CHUNK_TOKENS):
            logits = head.logits(hidden[chunk])
            for block in _slices(chunk.start, chunk.stop, SOFTMAX_TOKENS):
                of_block = logits[block.start - chunk.start : block.stop - chunk.start]
                probabilities, losses[block] = _softmax(of_block, targets[block])
                of_block.copy_(probabilities)  # in the logits' own memory and type, which the next product wants
            rows = torch.arange(chunk.stop - chunk.start, device=logits.device)
            # p - 1; scatter_ would take as long as the softmax.
            logits[rows, targets[chunk]] = torch.expm1(-losses[chunk]).to(logits.dtype)
            gradient[chunk] = (logits @ head.weight)[: len(rows)] * weights[chunk, None]
        ctx.save_for_backward(gradient)
        ctx.n_tokens_of_cells = n_tokens_of_cells
        # A sum a cell, not index_add_: its order would be open on a GPU.
        return torch.stack([part.sum() for part in torch.split(losses, n_tokens_of_cells)]) / counts

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (of_hidden,) = ctx.saved_tensors
        counts = torch.tensor(ctx.n_tokens_of_cells, device=gradient.device)
        return of_hidden * gradient.repeat_interleave(counts)[:, None].to(of_hidden.dtype), None, None, None
