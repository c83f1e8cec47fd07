"""From the axes of a study to its points: a full grid, or a star around a centre."""

import itertools
from dataclasses import dataclass
from typing import Any

from loralaw.spec.methods import MethodSpec
from loralaw.spec.study_spec import StudySpec


@dataclass(frozen=True)
class Point:
    """One combination of the axes, still by name."""

    base_model: str
    method: MethodSpec
    n_train_examples: int
    rank: int | None
    """None: the method has no rank."""
    seed: int


def points(spec: StudySpec) -> list[Point]:
    """The points of a study, base model by base model, in the order of the file.

    A star has every value of one axis with the middle entry (of an even number, the later one) of each other list. A
    method without rank has one point where others have one a rank.
    """
    axes: list[list[Any]] = [spec.base_models, spec.methods, spec.sizes, spec.ranks or [None]]
    centre = [axis[len(axis) // 2] for axis in axes]
    combinations: list[tuple[Any, ...]] = list(itertools.product(*axes))
    if spec.layout == "star":
        combinations = [c for c in combinations if sum(a != b for a, b in zip(c, centre, strict=True)) <= 1]
    return [
        Point(model, method, n, rank if method.has_rank else None, seed)
        for model, method, n, rank in combinations
        if method.has_rank or rank == centre[3]
        for seed in spec.seeds
    ]
