"""A source classifier given as a vector."""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from loralaw.errors import InputError
from loralaw.theory.arguments import Floats, vector
from loralaw.theory.general import RidgeFit


@dataclass(init=False, eq=False)
class KnownVector:
    """A source classifier w̃, (p,), however it was trained, for a `GaussianTarget`.

    Raises:
        InputError: no vector of finite numbers.
    """

    weights: Floats

    def __init__(self, weights: ArrayLike) -> None:
        self.weights = vector("weights", weights)

    def mean_vector(self, dim: int) -> Floats:
        """w̃ itself."""
        if self.weights.size != dim:
            raise InputError(f"weights has {self.weights.size} entries, the target's mean {dim}: give both the same")
        return self.weights

    def scatter_within(self, fit: RidgeFit) -> float:
        """Nothing: it holds no expectation."""
        return 0.0
