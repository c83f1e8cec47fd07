"""Running sums over tokens, kept by block of sequences: what streams, merges, and gives standard errors."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub.token_chunk import N_BLOCKS, TokenChunk

PerToken = Tensor | tuple[Tensor, Tensor]
"""Of each token a number, (tokens,), or one of z and one of u, (2, tokens); or as many vectors, (1 or 2, tokens, k);
or two matrices (tokens, i) and (tokens, j), of whose rows the outer products are summed."""

Means = dict[str, Tensor]
"""Means over tokens by name, each (cells, ...)."""

_NUMBERS, _COUNT = "numbers", "tokens"


class BlockSums:
    """Sums of named quantities over tokens, for N_BLOCKS blocks of whole sequences and any number of cells; float64.

    The standard error of a function f of the means is the delta method's, clustered by block, with the gradient from
    autograd:

        ψ_b = ∇f(S̄) · (S_b - n_b S̄) / n,   stderr² = B/(B-1) Σ_b ψ_b²      (B blocks that have tokens)

    Sequences of different blocks are taken as independent; the tokens of a sequence need not be. With 16 blocks of
    like size the standard error itself is uncertain by about 18 %; with fewer sequences than blocks, by more.

    **Source**: ours; the delta method for clustered ratio estimators.
    """

    def __init__(self) -> None:
        self.leading, self._n_features = torch.Size(), 0
        # Numbers of a token are summed in one operation; here are their names, and how many of them have each.
        self._widths: dict[str, int] = {}
        self._sums: dict[str, Tensor] = {}

    @property
    def n_tokens(self) -> int:
        """Tokens seen of each cell."""
        return int(self._counts()[0].sum()) if self._sums else 0

    @property
    def n_features(self) -> int:
        return self._n_features

    @property
    def n_numbers(self) -> int:
        """Numbers that are kept."""
        return sum(sums.numel() for sums in self._sums.values())

    def n_blocks(self) -> int:
        """Blocks that have tokens."""
        return int((self._counts()[0] > 0).sum()) if self._sums else 0

    def add(self, chunk: TokenChunk, values: Mapping[str, PerToken]) -> None:
        """Add a chunk's tokens.

        Args:
            chunk: the tokens.
            values: what is summed, by the same names in every call.

        Raises:
            InputError: the chunk's shape is not that of earlier ones.
        """
        self._take_shape(chunk.leading, chunk.features.shape[-1])
        numbers = {name: v for name, v in values.items() if isinstance(v, Tensor) and v.dim() < 3}
        numbers[_COUNT] = torch.ones(chunk.block.shape, dtype=torch.float64, device=chunk.block.device)
        self._widths = {name: v.shape[0] if v.dim() == 2 else 0 for name, v in numbers.items()}
        rows = torch.cat([v.double().view(-1, len(chunk.block)) for v in numbers.values()])
        self._add(chunk, _NUMBERS, rows.new_zeros(len(rows), N_BLOCKS).index_add_(1, chunk.block, rows).T)
        for name, value in values.items():
            if isinstance(value, tuple):
                self._add_products(chunk, name, *value)
            elif name not in numbers:
                self._add(chunk, name, _sum(value, chunk.block))

    def merge(self, other: "BlockSums") -> None:
        """Add what another has summed.

        Raises:
            InputError: it was of another shape.
        """
        if other._sums:
            self._take_shape(other.leading, other._n_features)
            mine = self._sums or {name: torch.zeros_like(sums) for name, sums in other._sums.items()}
            self._sums = {name: sums + other._sums[name].to(sums.device) for name, sums in mine.items()}
            self._widths = other._widths

    @staticmethod
    def side_by_side(parts: Sequence["BlockSums"]) -> "BlockSums":
        """The cells of several sums of one kind and width together: what follows is then done once for all of them."""
        joined = BlockSums()
        joined.leading = torch.Size([sum(part.leading.numel() for part in parts)])
        joined._n_features, joined._widths = parts[0]._n_features, parts[0]._widths
        joined._sums = {name: torch.cat([part._sums[name] for part in parts]) for name in parts[0]._sums}
        return joined

    def means(self) -> Means:
        """Means over all tokens."""
        n_tokens = self._counts().sum(1)
        return {name: sums.sum(1) / _like(n_tokens, sums[:, 0]) for name, sums in self._by_name().items()}

    def value_and_influence(self, function: Callable[[Means], Tensor]) -> tuple[Tensor, Tensor]:
        """f(S̄), (cells,), and ψ_b, what each block's sequences have moved it by, (cells, N_BLOCKS); float64.

        Args:
            function: f, (cells,) from the means; differentiable, each cell's from its own means alone.
        """
        counts, sums = self._counts(), self._by_name()
        with torch.inference_mode(False), torch.enable_grad():
            means = {name: mean.clone().requires_grad_() for name, mean in self.means().items()}
            value = function(means)
            inputs = list(means.values())
            gradients = torch.autograd.grad(value.sum(), inputs, allow_unused=True)
        influence = torch.zeros(len(value), N_BLOCKS, dtype=torch.float64, device=value.device)
        for name, gradient in zip(means, gradients, strict=True):
            if gradient is None:
                continue
            by_block = sums[name].reshape(len(value), N_BLOCKS, -1)
            centred = by_block - counts[:, :, None] * means[name].detach().reshape(len(value), 1, -1)
            # Not a matrix product: its last bits would depend on the number of cells.
            influence += (centred * gradient.reshape(len(value), 1, -1)).sum(-1) / counts.sum(1, keepdim=True)
        return value.detach(), influence

    def _counts(self) -> Tensor:
        """Tokens by block, (cells, N_BLOCKS)."""
        return self._sums[_NUMBERS][:, :, -1]

    def _by_name(self) -> Means:
        """Sums by name, each (cells, N_BLOCKS, ...)."""
        columns = torch.split(self._sums[_NUMBERS], [max(1, width) for width in self._widths.values()], -1)
        numbers = {
            name: column if width else column.squeeze(-1)
            for (name, width), column in zip(self._widths.items(), columns, strict=True)
        }
        return numbers | {name: sums for name, sums in self._sums.items() if name != _NUMBERS}

    def _add(self, chunk: TokenChunk, name: str, sums: Tensor) -> None:
        self._sums_of(chunk, name, sums.shape)[chunk.cell] += sums

    def _add_products(self, chunk: TokenChunk, name: str, one: Tensor, other: Tensor) -> None:
        sums = self._sums_of(chunk, name, torch.Size([N_BLOCKS, one.shape[1], other.shape[1]]))[chunk.cell]
        for number in set(chunk.block.tolist()):
            here = chunk.block == number
            sums[number].addmm_(one[here].double().T, other[here].double())

    def _sums_of(self, chunk: TokenChunk, name: str, shape: torch.Size) -> Tensor:
        if name not in self._sums:
            device = chunk.features.device
            self._sums[name] = torch.zeros(chunk.leading.numel(), *shape, dtype=torch.float64, device=device)
        return self._sums[name]

    def _take_shape(self, leading: torch.Size, n_features: int) -> None:
        if not self._sums:
            self.leading, self._n_features = leading, n_features
        elif (leading, n_features) != (self.leading, self._n_features):
            raise InputError(
                f"earlier tokens had {self._n_features} features and the leading shape {tuple(self.leading)}, these "
                f"have {n_features} and {tuple(leading)}: measure and merge each layer by itself"
            )


def stderr_of(influence: Tensor, n_blocks: int) -> Tensor:
    """sqrt(B/(B-1) Σ ψ²) over the last dimension, nan for fewer than two blocks.

    The influence of a mean of several statistics of the same sequences is the mean of their influences.
    """
    if n_blocks < 2:
        return torch.full(influence.shape[:-1], torch.nan, dtype=influence.dtype)
    return (influence.square().sum(-1) * (n_blocks / (n_blocks - 1))).sqrt()


def _like(numbers: Tensor, other: Tensor) -> Tensor:
    """(cells,) so that it divides (cells, ...)."""
    return numbers.view(-1, *[1] * (other.dim() - 1))


def _sum(vectors: Tensor, block: Tensor) -> Tensor:
    """(sides, tokens, k) -> (N_BLOCKS, sides, k)."""
    sides = len(vectors)
    blocks = torch.cat([block + side * N_BLOCKS for side in range(sides)])  # u's come after z's: one operation
    sums = vectors.new_zeros(sides * N_BLOCKS, vectors.shape[2]).index_add_(0, blocks, vectors.flatten(0, 1))
    return sums.view(sides, N_BLOCKS, -1).transpose(0, 1).double()
