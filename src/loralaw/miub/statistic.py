"""A number made from means over tokens: how all our estimators and controls stream, merge, and get standard errors."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub.block_sums import BlockSums, Means, PerToken, stderr_of
from loralaw.miub.estimator import Estimate
from loralaw.miub.scratch import Scratch
from loralaw.miub.token_chunk import TokenChunk, check_features


class Statistic(ABC):
    """f(S̄), a function of means over tokens. A subclass says what is averaged (`per_token`) and what f is (`value_of`).

    Any split or order of the tokens gives the same value, and two processes are merged by addition (`BlockSums`).

    Leading dimensions of the features ("cells") are independent measurements; one whose features are not finite has the
    value nan and does not disturb the others.
    """

    name: ClassVar[str]
    n_tokens_needed: ClassVar[int] = 1
    most_features: ClassVar[int | None] = None
    """Widest features that it takes; None: any."""

    def __init__(self) -> None:
        self._sums, self._scratch = BlockSums(), Scratch()

    @abstractmethod
    def per_token(self, chunk: TokenChunk) -> Mapping[str, PerToken]:
        """What is averaged over tokens."""

    @abstractmethod
    def value_of(self, mean: Means) -> Tensor:
        """f: the value, (cells,), from the means of what `per_token` gives; differentiable."""

    @property
    def n_tokens(self) -> int:
        """Tokens seen of each cell."""
        return self._sums.n_tokens

    def update(self, base: Tensor, adapter: Tensor, sequence: Tensor | None = None) -> None:
        """Add tokens.

        Args:
            base: z, (..., tokens, features), any floating type; the leading dimensions are independent cells.
            adapter: u, of the same shape.
            sequence: (tokens,) int64, at least 0: the number of each token's sequence; None: every token is its own.

        Raises:
            InputError: shapes differ, or differ from those of earlier updates.
        """
        check_features(base, adapter)
        if self.is_too_wide(base.shape[-1]):
            raise InputError(self.why_not(base.shape[-1], 0))
        self._sums.add(base, adapter, sequence, self.per_token, self._scratch)

    def merge(self, other: Self) -> None:
        """Add the tokens that another has seen, for instance on another device or in another process.

        Raises:
            InputError: the other is of another kind or another shape.
        """
        if type(other) is not type(self):
            raise InputError(f"cannot merge {type(self).__name__} with {type(other).__name__}: merge two of one kind")
        self._sums.merge(other._sums)

    def value(self) -> Tensor:
        """The value, float64, of the leading shape.

        Raises:
            InputError: too few tokens.
        """
        self._check_enough()
        return self.value_of(self._sums.means()).view(self._sums.leading)

    def stderr(self) -> Tensor:
        """The standard error, float64, of the leading shape; nan where all tokens are of one sequence.

        Raises:
            InputError: too few tokens.
        """
        self._check_enough()
        influence = self._sums.value_and_influence(self.value_of)[1]
        return stderr_of(influence, self._sums.n_blocks()).view(self._sums.leading)

    def result(self) -> Estimate:
        """The estimate, where there are no leading dimensions.

        Raises:
            InputError: too few tokens, features that are not finite, or leading dimensions.
        """
        if self._sums.leading:
            raise InputError(f"result() is for (tokens, features); these had {tuple(self._sums.leading)} in front")
        value, stderr = float(self.value()), float(self.stderr())
        if value != value:
            raise InputError("the features hold nan or infinite numbers: nothing can be estimated from them")
        return Estimate(self.name, value, None if stderr != stderr else stderr, self.n_tokens)

    def is_too_wide(self, n_features: int) -> bool:
        return self.most_features is not None and n_features > self.most_features

    def why_not(self, n_features: int, n_tokens: int) -> str | None:
        """Why there is no value for so many features and tokens; None: there is one."""
        if self.is_too_wide(n_features):
            return (
                f"{self.name} keeps matrices of features × features and takes at most {self.most_features} features, "
                f"these are {n_features}; channel, jsd and gaussian_coordinate take any"
            )
        if n_tokens < self.needs(n_features):
            tokens = f"{n_tokens} token{'' if n_tokens == 1 else 's'}"
            return f"{self.name} has seen {tokens} and needs at least {self.needs(n_features)}: give it more text"
        return None

    def _check_enough(self) -> None:
        if reason := self.why_not(self._sums.n_features, self.n_tokens):
            raise InputError(reason)

    def needs(self, n_features: int) -> int:
        """Tokens that a value needs."""
        return self.n_tokens_needed
