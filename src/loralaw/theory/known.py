"""A source classifier that is given, however it was trained."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from loralaw.errors import InputError
from loralaw.theory.arguments import Floats, check_broadcast, non_negative, real, shown
from loralaw.theory.binary_target import BinaryTarget


@dataclass(init=False, eq=False)
class KnownSource:
    """What the theory needs of a source vector w̃ where features within a class are uncorrelated with variance 1.

    Args:
        norm_sq: ‖w̃‖².
        dot_target_mean: ⟨w̃, μ_β⟩, with half the difference of the target's class means.

    Both may be arrays that broadcast.

    Raises:
        InputError: an argument that cannot be, by name.

    **Source**: arXiv 2510.21345.
    """

    norm_sq: Floats
    dot_target_mean: Floats

    def __init__(self, norm_sq: ArrayLike, dot_target_mean: ArrayLike) -> None:
        self.norm_sq = non_negative("norm_sq", norm_sq)
        self.dot_target_mean = real("dot_target_mean", dot_target_mean)
        check_broadcast(**vars(self))

    def moments(self, target: BinaryTarget) -> tuple[Floats, Floats]:
        """c = ⟨w̃, μ_β⟩ and s = ‖w̃‖², which hold no expectation here.

        Raises:
            InputError: no vector can have this inner product with the target's mean.
        """
        length, own = np.sqrt(target.mean_norm_sq), np.sqrt(self.norm_sq)
        if np.any(np.abs(self.dot_target_mean) > length * own * (1 + 1e-9)):
            raise InputError(
                f"dot_target_mean={shown(self.dot_target_mean)}: no vector has it, whose norm_sq is "
                f"{shown(self.norm_sq)}, with a target mean of length {shown(length)}. Give from "
                f"-{shown(length * own)} to {shown(length * own)}"
            )
        return self.dot_target_mean, self.norm_sq
