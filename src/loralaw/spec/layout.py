"""From the axes of a study to its points: a full grid, or a star around a centre."""

import itertools
from dataclasses import dataclass
from typing import Any, Literal

from loralaw.spec.methods import MethodSpec
from loralaw.spec.study_spec import StudySpec, TaskSpec, TemplateSpec


@dataclass(frozen=True)
class Point:
    """One combination of the axes, still by name."""

    base_model: str
    task: TaskSpec
    template: TemplateSpec | None
    """None: the task's own way."""
    method: MethodSpec
    n_train_examples: int | Literal["all"]
    rank: int | None
    """None: the method has no rank."""
    seed: int


def points(spec: StudySpec) -> list[Point]:
    """The points of a study, base model by base model, in the order of the file.

    Every task and every template has the whole grid, or the whole star. A star has every value of one axis with the
    middle entry (of an even number, the later one) of each other list. A method without rank has one point where others
    have one a rank.
    """
    axes: list[list[Any]] = [spec.base_models, spec.methods, spec.sizes, spec.ranks or [None]]
    centre = [axis[len(axis) // 2] for axis in axes]
    combinations: list[tuple[Any, ...]] = list(itertools.product(*axes))
    if spec.layout == "star":
        combinations = [c for c in combinations if sum(a != b for a, b in zip(c, centre, strict=True)) <= 1]
    templates: list[TemplateSpec | None] = [*spec.templates] or [None]
    texts = list(itertools.product(spec.all_tasks, templates))
    return [
        Point(model, task, template, method, n, rank if method.has_rank else None, seed)
        for model, of_model in itertools.groupby(combinations, key=lambda combination: combination[0])
        for (task, template), (_, method, n, rank) in itertools.product(texts, of_model)
        if method.has_rank or rank == centre[3]
        for seed in spec.seeds
    ]
