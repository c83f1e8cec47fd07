"""The learned contrastive log-ratio bound: the usual choice today, and what the closed forms are held against."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub.estimator import Estimate
from loralaw.miub.token_chunk import check_features, check_sequence

_NEEDED = 32
_FEWEST_SEQUENCES = 16
"""With fewer sequences than this the tokens, not the sequences, are split into what is learned from and what is not."""
_BATCH = 128
_LEARNING_RATES = (3e-3, 1e-3, 3e-4)
_PATIENCE = 4
_LEAST_GAIN = 1e-4
"""A pass that lowers the held-out loss (per coordinate) by less has not improved it."""
_LOG_VARIANCE_BOUND = 8.0


class LearnedBound:
    """The variational contrastive log-ratio bound (vCLUB) of real-valued z and u, with a learned conditional; in nats.

        q(u|z) = N( μ(z), diag σ²(z) ), learned by maximum likelihood
        value  = mean_i log q(u_i|z_i) - mean_{i≠j} log q(u_j|z_i)

    **What it bounds.** If q(u|z) is the true conditional, the expected value is I(z;u) + KL(p(z)p(u) ‖ p(z,u)), so at
    least I(z;u). With a learned q it need not bound anything: q may miss some of the dependence (value too low) or be
    too sure of itself (too high). For pairs of jointly Gaussian coordinates with correlation ρ the value with the true
    q is d ρ²/(1-ρ²).

    **How.** Both are standardised by coordinate. μ and log σ² are a linear map plus a network of one hidden layer,
    trained with Adam at three falling learning rates, each stopped early on an eighth of the tokens. Two-fold
    cross-fitting: each half is scored by the q that was learned on the other half (halves of the sequences where there
    are 16 or more, of the tokens otherwise). The mean over all pairs is exact and needs no n² numbers: for a diagonal
    Gaussian it follows from the means of u and u². Multiplying or shifting coordinates of z and u changes the value
    only by the noise of learning. It is exactly 0 for u = 0; it is not clamped, so it may be slightly negative for
    independent z and u.

    **Standard error**: of the statistic over pairs, by its first-order (delta) expansion, clustered by sequence,
    conditional on the two learned q: the noise of learning is not in it, and is often the larger part. None with one
    sequence.

    **Cost.** Learning needs several passes, so it keeps every token it has seen (on the processor) and takes seconds.
    The order of the tokens is fixed by their content before learning and the seed is fixed: order and batches do not
    change the value. The global random state is not touched.

    **Source**: arXiv 2006.12013. **Departs from source**: cross-fitted; pairs i = j left out of the second mean, which
    makes it unbiased for a given q.

    >>> bound = LearnedBound()
    >>> bound.update(torch.randn(64, 3), torch.zeros(64, 3))
    >>> bound.result().value_nats
    0.0
    """

    name: ClassVar[str] = "vclub"
    max_passes: ClassVar[int] = 200
    """Most passes over the half that is learned from, at each learning rate; early stopping comes first as a rule."""

    def __init__(self) -> None:
        self.n_tokens = 0
        self._seen: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def update(self, base: Tensor, adapter: Tensor, sequence: Tensor | None = None) -> None:
        """Add tokens.

        Args:
            base: z, (tokens, d), any floating type.
            adapter: u, of the same shape.
            sequence: (tokens,) int64, the number of each token's sequence; None: every token is a sequence of its own.

        Raises:
            InputError: shapes that do not fit each other or earlier updates, or sequences given only sometimes.
        """
        check_features(base, adapter)
        if base.dim() != 2:
            raise InputError(
                f"base has shape {tuple(base.shape)}: the learned bound takes one layer of one cell, (tokens, features)"
            )
        if sequence is not None:
            check_sequence(sequence, len(base))
        self._add([(_kept(base), _kept(adapter), None if sequence is None else sequence.detach().cpu().clone())])

    def merge(self, other: "LearnedBound") -> None:
        """Add the tokens that another has seen, for instance on another device or in another process."""
        self._add(list(other._seen))

    def result(self) -> Estimate:
        """Learn the conditional and evaluate the bound.

        Raises:
            InputError: fewer than 32 tokens, or features that are not finite.
        """
        if self.n_tokens < _NEEDED:
            raise InputError(
                f"LearnedBound has seen {self.n_tokens} tokens and needs at least {_NEEDED}: update it with more text"
            )
        with torch.inference_mode(False), torch.no_grad(), torch.autocast("cpu", enabled=False), torch.device("cpu"):
            z, u, sequence = self._ordered()
            half, stops = _split(sequence, len(z))
            value, influence = 0.0, torch.empty(len(z), dtype=torch.float64)
            for scored in (half, ~half):
                conditional = _Conditional(z.shape[1])
                learned, held = ~scored & ~stops, ~scored & stops
                conditional.learn(z[learned], u[learned], z[held], u[held], self.max_passes)
                mean, influence[scored] = _contrast(u[scored].double(), *conditional.moments(z[scored]))
                value += mean * int(scored.sum()) / len(z)
        return Estimate(self.name, value, _clustered(influence, sequence), self.n_tokens)

    def _add(self, seen: Sequence[tuple[Tensor, Tensor, Tensor | None]]) -> None:
        for z, u, sequence in seen:
            if self._seen and self._seen[0][0].shape[1] != z.shape[1]:
                raise InputError(
                    f"earlier tokens had {self._seen[0][0].shape[1]} features, these have {z.shape[1]}: "
                    "use one LearnedBound for each layer"
                )
            if self._seen and (self._seen[0][2] is None) != (sequence is None):
                raise InputError("sequence was given for some tokens and not for others: give it always or never")
            self._seen.append((z, u, sequence))
            self.n_tokens += len(z)

    def _ordered(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """All tokens, standardised, in an order that only their content and sequence fix."""
        z, u = torch.cat([z for z, _, _ in self._seen]), torch.cat([u for _, u, _ in self._seen])
        if not (z.isfinite().all() and u.isfinite().all()):
            raise InputError("some features are not finite (nan or inf): the layer overflows or is broken")
        order = _content_key(torch.cat([z, u], 1).double()).argsort(stable=True)
        sequence = None
        if self._seen[0][2] is not None:
            sequence = torch.cat([given for _, _, given in self._seen if given is not None])
            order = order[sequence[order].argsort(stable=True)]
            sequence = sequence[order]
        return _standardised(z[order]), _standardised(u[order]), sequence


class _Conditional:
    """q(u|z) = N(μ(z), diag σ²(z)): a linear map plus one hidden layer for μ and log σ², starting at N(0, 1)."""

    def __init__(self, d: int) -> None:
        hidden = min(max(64, 2 * d), 512)
        self._random = torch.Generator().manual_seed(0)
        self._weights = [
            torch.randn(d, hidden, generator=self._random, dtype=torch.float32) / math.sqrt(d),
            *(torch.zeros(shape, dtype=torch.float32) for shape in ((hidden,), (hidden, 2 * d), (d, 2 * d), (2 * d,))),
        ]  # zeros: before learning q is the marginal, and the bound 0

    def learn(self, z: Tensor, u: Tensor, held_z: Tensor, held_u: Tensor, max_passes: int) -> None:
        """Maximum likelihood on (z, u) until the likelihood of the held-out pairs has stopped rising; keep the best."""
        if not u.any():
            return  # nothing to learn: the bound is 0 for every q
        best, lowest = [w.clone() for w in self._weights], float(self._loss(held_z, held_u))
        for rate in _LEARNING_RATES:
            adam = torch.optim.Adam(self._weights, lr=rate)
            since_best = 0
            for _ in range(max_passes):
                self._pass(adam, z, u)
                loss = float(self._loss(held_z, held_u))
                since_best += 1
                if loss < lowest - _LEAST_GAIN:  # never true of nan
                    best, lowest, since_best = [w.clone() for w in self._weights], loss, 0
                if since_best >= _PATIENCE:
                    break
            for w, kept in zip(self._weights, best, strict=True):
                w.copy_(kept)

    def _pass(self, adam: torch.optim.Adam, z: Tensor, u: Tensor) -> None:
        for batch in torch.split(torch.randperm(len(z), generator=self._random), _BATCH):
            with torch.enable_grad():
                for w in self._weights:
                    w.requires_grad_(True)
                gradients = torch.autograd.grad(self._loss(z[batch], u[batch]), self._weights)
            for w, gradient in zip(self._weights, gradients, strict=True):
                w.requires_grad_(False)
                w.grad = gradient
            adam.step()

    def moments(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """μ and 1/σ² of each token, (tokens, d), float64."""
        mean, log_variance = self._forward(z)
        return mean.double(), log_variance.double().neg().exp()

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        into, into_bias, out, direct, bias = self._weights
        mean, raw = (torch.relu(z @ into + into_bias) @ out + z @ direct + bias).chunk(2, -1)
        return mean, _LOG_VARIANCE_BOUND * torch.tanh(raw / _LOG_VARIANCE_BOUND)

    def _loss(self, z: Tensor, u: Tensor) -> Tensor:
        mean, log_variance = self._forward(z)
        return ((u - mean).square() * log_variance.neg().exp() + log_variance).mean()


def _contrast(u: Tensor, mean: Tensor, precision: Tensor) -> tuple[float, Tensor]:
    """The bound for a given q, and each token's influence on it.

    With f(i,j) = log q(u_j|z_i), the normalisers cancel within i, so that
    f(i,i) - mean_j f(i,j) = Σ_k precision_ik ( μ_ik (u_ik - ū_k) - (u²_ik - mean u²_k)/2 ).
    """
    n = len(u)
    first, second = u.mean(0), u.square().mean(0)
    own = (precision * (mean * (u - first) - (u.square() - second) / 2)).sum(1)
    as_other = u @ (precision * mean).mean(0) - u.square() @ precision.mean(0) / 2  # mean_i f(i,j), up to a constant
    influence = own - own.mean() - (as_other - as_other.mean())
    return float(own.mean()) * n / (n - 1), influence


def _clustered(influence: Tensor, sequence: Tensor | None) -> float | None:
    """Standard error of a mean from influences that may be dependent within a sequence."""
    totals = influence
    if sequence is not None:
        index = torch.unique(sequence, return_inverse=True)[1]
        totals = torch.zeros(int(index.max()) + 1, dtype=influence.dtype).index_add_(0, index, influence)
    n = len(totals)
    return math.sqrt(float(totals.square().sum()) * n / (n - 1)) / len(influence) if n > 1 else None


def _split(sequence: Tensor | None, n_tokens: int) -> tuple[Tensor, Tensor]:
    """Two masks over tokens: the half that is scored first, and the eighth of each half that stops the learning."""
    index = torch.arange(n_tokens)
    if sequence is not None:
        by_sequence = torch.unique(sequence, return_inverse=True)[1]
        if by_sequence.max() + 1 >= _FEWEST_SEQUENCES:
            index = by_sequence
    return index % 2 == 0, index // 2 % 8 == 0


def _content_key(rows: Tensor) -> Tensor:
    """A number a row, (rows,) int64, from its bits alone: sorting by it is a shuffle that forgets the old order."""
    random = torch.Generator().manual_seed(0)
    multipliers = torch.randint(-(2**62), 2**62, rows.shape[1:], generator=random) * 2 + 1
    return ((rows + 0.0).view(torch.int64) * multipliers).sum(1)  # + 0.0: one zero; integer sums wrap, exactly


def _standardised(features: Tensor) -> Tensor:
    """Mean 0 and variance 1 by coordinate, float32; a constant coordinate gives zeros."""
    wide = features.double()
    wide = wide / wide.abs().amax(0).clamp_min(torch.finfo(torch.float64).tiny)  # squares neither overflow nor vanish
    wide = wide - wide.mean(0)
    deviation = wide.square().mean(0).sqrt()
    return torch.where(deviation > 1e-12, wide / deviation, 0.0).float()


def _kept(features: Tensor) -> Tensor:
    return features.detach().to("cpu", torch.promote_types(features.dtype, torch.float32), copy=True)
