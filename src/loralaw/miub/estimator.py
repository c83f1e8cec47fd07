"""What an estimator is, and what it gives."""

from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A number of nats with its uncertainty."""

    estimator: str
    value_nats: float
    stderr_nats: float | None
    """Standard error over sequences (over tokens, where no sequences were given); None with only one."""
    n_tokens: int


class Estimator(Protocol):
    """A streaming estimator: tokens in any order and any batches, on any number of devices, then one result."""

    def update(self, base: Tensor, adapter: Tensor, sequence: Tensor | None = None) -> None:
        """Add tokens.

        Args:
            base: z, (tokens, features), any floating type.
            adapter: u, of the same shape.
            sequence: (tokens,) int64, at least 0: the number of each token's sequence (tokens of one sequence are not
                independent); None: every token is a sequence of its own.
        """

    def merge(self, other: Self) -> None:
        """Add the tokens that another has seen, for instance on another device or in another process."""

    def result(self) -> Estimate:
        """The estimate over all tokens added."""
