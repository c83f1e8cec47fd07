"""Cross-entropy straight from hidden states: the logits of a few tokens at a time, so never tokens × vocabulary."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from loralaw.tasks import NOT_SCORED

CHUNK_TOKENS = 128
"""Scored tokens whose logits exist at once: enough for a full-speed product, few enough to stay in cache."""
_RARE = 1e-30  # below this a float32 softmax has lost digits


@dataclass(frozen=True)
class Head:
    """A frozen output head in the type of the products."""

    weight: Tensor
    """(vocabulary, hidden)"""
    bias: Tensor | None

    def probabilities(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(logits, softmax in float32, -log softmax of the targets) of a chunk of tokens."""
        logits = F.linear(hidden.to(self.weight.dtype), self.weight, self.bias)
        probabilities = logits.softmax(-1, dtype=torch.float32)  # one kernel; log-softmax and exp would be two
        of_target = probabilities.gather(1, targets[:, None]).squeeze(1)
        losses = -of_target.log()
        # Token by token: a partner's token in the same chunk must not change how this one is computed.
        rare = (of_target < _RARE).nonzero().squeeze(1)
        if len(rare):
            exact = logits[rare].log_softmax(-1, dtype=torch.float32)
            losses[rare] = -exact.gather(1, targets[rare, None]).squeeze(1)
        return logits, probabilities, losses


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
    losses, hits = [], []
    for at in range(0, len(targets), CHUNK_TOKENS):
        chunk = slice(at, at + CHUNK_TOKENS)
        logits, _, loss = head.probabilities(hidden[chunk], targets[chunk])
        losses.append(loss)
        hits.append(logits.argmax(-1) == targets[chunk])
    if not losses:
        return hidden.new_zeros(0, dtype=torch.float32), targets.new_zeros(0, dtype=torch.bool)
    return torch.cat(losses), torch.cat(hits)


class _MeanLosses(torch.autograd.Function):
    """The head is frozen, so the gradient of the hidden states is made in the same pass as the loss."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Head, targets: Tensor, n_tokens_of_cells: list[int]) -> Tensor:
        losses = torch.empty(len(targets), device=hidden.device)
        gradient = torch.empty_like(hidden)
        counts = torch.tensor(n_tokens_of_cells, device=hidden.device)
        weights = counts.float().reciprocal().repeat_interleave(counts)
        for at in range(0, len(targets), CHUNK_TOKENS):
            chunk = slice(at, at + CHUNK_TOKENS)
            _, probabilities, losses[chunk] = head.probabilities(hidden[chunk], targets[chunk])
            column = targets[chunk, None]
            probabilities.scatter_(1, column, probabilities.gather(1, column) - 1)
            gradient[chunk] = (probabilities.to(head.weight.dtype) @ head.weight) * weights[chunk, None]
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
