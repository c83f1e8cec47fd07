"""Running sums over tokens, kept by block of sequences: what streams, merges, and gives standard errors."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub.scratch import Scratch
from loralaw.miub.token_chunk import TokenChunk, check_sequence, token_chunks

N_BLOCKS = 16
"""Sequences are dealt into this many blocks, and sums are kept by block: enough for a standard error with a relative
error of about 1/√30, without keeping a number for every sequence."""

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
        self.leading, self.n_features, self.n_tokens = torch.Size(), 0, 0
        """Shape of the cells, and features and tokens seen of each."""
        # Numbers of a token are summed in one operation; here are their names, and how many of them have each.
        self._widths: dict[str, int] = {}
        self._sums: dict[str, Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where the sums are kept."""
        return self._counts().device

    @property
    def n_numbers(self) -> int:
        """Numbers that are kept."""
        return sum(sums.numel() for sums in self._sums.values())

    def n_blocks(self) -> int:
        """Blocks that have tokens."""
        return int((self._counts()[0] > 0).sum()) if self._sums else 0

    def add(
        self,
        base: Tensor,
        adapter: Tensor,
        sequence: Tensor | None,
        per_token: Callable[[TokenChunk], Mapping[str, PerToken]],
        scratch: Scratch,
    ) -> None:
        """Add tokens.

        Args:
            base: z, (..., tokens, features), as `check_features` wants it; the leading dimensions are cells.
            adapter: u, of the same shape.
            sequence: (tokens,) int64, the same for every cell; None: every token is a sequence of its own.
            per_token: what is summed, by the same names in every call.
            scratch: memory for a few tokens.

        Raises:
            InputError: a sequence that does not fit, or a shape that is not that of earlier tokens. After any other
                exception a part of the tokens may have been added: begin anew.
        """
        n_tokens, n_features = base.shape[-2:]
        if sequence is None:  # tokens go round the blocks
            sequence = torch.arange(self.n_tokens, self.n_tokens + n_tokens)
        block = _block_of(check_sequence(sequence, n_tokens)).to(base.device)
        self._expect(base.shape[:-2], n_features)
        by_cell = (self.leading.numel(), n_tokens, n_features)
        with torch.inference_mode(False), torch.no_grad():  # what is kept must serve outside of inference mode too
            cells = zip(base.detach().reshape(by_cell), adapter.detach().reshape(by_cell), strict=True)
            for cell, (z, u) in enumerate(cells):
                chunks = token_chunks(z, u, block, scratch)
                numbers = [self._add_chunk(cell, chunk, per_token(chunk)) for chunk in chunks]
                if numbers:
                    self._add(cell, _NUMBERS, _sum_of_numbers(torch.cat(numbers, 1), block))
        self.n_tokens += n_tokens  # counted here: reading the sums would make an accelerator wait

    def merge(self, other: "BlockSums") -> None:
        """Add what another has summed.

        Raises:
            InputError: it was of another shape.
        """
        if other._sums:
            self._expect(other.leading, other.n_features)
            with torch.inference_mode(False):
                mine = self._sums or {name: torch.zeros_like(sums) for name, sums in other._sums.items()}
                self._sums = {name: sums + other._sums[name].to(sums.device) for name, sums in mine.items()}
            self._widths = other._widths
            self.n_tokens += other.n_tokens

    @staticmethod
    def side_by_side(parts: Sequence["BlockSums"]) -> "BlockSums":
        """The cells of several sums of one kind and width, for one `value_and_influence` of all of them."""
        joined = BlockSums()
        joined._widths = parts[0]._widths
        joined._sums = {name: torch.cat([part._sums[name] for part in parts]) for name in parts[0]._sums}
        return joined

    def means(self) -> Means:
        """Means over all tokens."""
        n_tokens = self._counts().sum(1)
        return {name: sums.sum(1) / _to_divide(n_tokens, sums[:, 0]) for name, sums in self._by_name().items()}

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

    def _add_chunk(self, cell: int, chunk: TokenChunk, values: Mapping[str, PerToken]) -> Tensor:
        """Sum vectors and products; give back the numbers of each token, (numbers, tokens)."""
        numbers = {name: value for name, value in values.items() if isinstance(value, Tensor) and value.dim() < 3}
        numbers[_COUNT] = chunk.features.new_ones(len(chunk.block))
        self._widths = {name: value.shape[0] if value.dim() == 2 else 0 for name, value in numbers.items()}
        for name, value in values.items():
            if isinstance(value, tuple):
                self._add_products(cell, name, chunk.block, *value)
            elif name not in numbers:
                self._add(cell, name, _sum_of_vectors(value, chunk.block))
        return torch.cat([value.view(-1, len(chunk.block)) for value in numbers.values()])

    def _add(self, cell: int, name: str, sums: Tensor) -> None:
        self._sums_of(name, sums.shape, sums.device)[cell] += sums

    def _add_products(self, cell: int, name: str, block: Tensor, one: Tensor, other: Tensor) -> None:
        shape = torch.Size([N_BLOCKS, one.shape[1], other.shape[1]])
        sums = self._sums_of(name, shape, block.device)[cell]
        for number in set(block.tolist()):
            here = block == number
            sums[number].addmm_(one[here].double().T, other[here].double())

    def _sums_of(self, name: str, shape: torch.Size, device: torch.device) -> Tensor:
        if name not in self._sums:
            self._sums[name] = torch.zeros(self.leading.numel(), *shape, dtype=torch.float64, device=device)
        return self._sums[name]

    def _expect(self, leading: torch.Size, n_features: int) -> None:
        """The first tokens say the shape, later ones must have it."""
        if not self._sums:
            self.leading, self.n_features = leading, n_features
        elif (leading, n_features) != (self.leading, self.n_features):
            raise InputError(
                f"earlier tokens had {self.n_features} features and the leading shape {tuple(self.leading)}, these "
                f"have {n_features} and {tuple(leading)}: measure and merge each layer by itself"
            )


def stderr_of(influence: Tensor, n_blocks: int) -> Tensor:
    """sqrt(B/(B-1) Σ ψ²) over the last dimension, nan for fewer than two blocks.

    The influence of a mean of several statistics of the same sequences is the mean of their influences.
    """
    if n_blocks < 2:
        return influence.new_full(influence.shape[:-1], torch.nan)
    return (influence.square().sum(-1) * (n_blocks / (n_blocks - 1))).sqrt()


def _to_divide(numbers: Tensor, other: Tensor) -> Tensor:
    """(cells,) so that it divides (cells, ...)."""
    return numbers.view(-1, *[1] * (other.dim() - 1))


def _block_of(sequence: Tensor) -> Tensor:
    """A block for each sequence number: evenly for consecutive numbers, and for any other regular numbering too.

    Fibonacci hashing: the top four bits of the number times 2^64/φ, in wrapping arithmetic.
    """
    return ((sequence * -7046029254386353131) >> 60) & (N_BLOCKS - 1)


def _sum_of_numbers(numbers: Tensor, block: Tensor) -> Tensor:
    """(numbers, tokens) -> (N_BLOCKS, numbers), float64."""
    return numbers.new_zeros(len(numbers), N_BLOCKS, dtype=torch.float64).index_add_(1, block, numbers.double()).T


def _sum_of_vectors(vectors: Tensor, block: Tensor) -> Tensor:
    """(sides, tokens, k) -> (N_BLOCKS, sides, k), float64."""
    sides = len(vectors)
    blocks = torch.cat([block + side * N_BLOCKS for side in range(sides)])  # u's come after z's: one operation
    sums = vectors.new_zeros(sides * N_BLOCKS, vectors.shape[2]).index_add_(0, blocks, vectors.flatten(0, 1))
    return sums.view(sides, N_BLOCKS, -1).transpose(0, 1).double()
