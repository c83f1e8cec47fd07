"""From a checked study to cells, and from cells to packs that train together."""

from collections import defaultdict
from collections.abc import Sequence

from loralaw.spec import Cell, points
from loralaw.study.check import CheckedStudy
from loralaw.training import TrainingPath, machine, n_params_trainable, n_steps_of, path_of

BEST_STEP_TOKENS = 4000
"""Packing gains up to 2,000 to 8,000 tokens a step (measured); beyond it only memory grows."""

MEMORY_SHARE = 0.7
"""Of the memory that is free when the study begins; the rest is for whatever else the machine does."""


def plan_cells(checked: CheckedStudy) -> list[Cell]:
    """The cells of a study, resolved: contents instead of names, numbers instead of defaults."""
    spec, data_hash = checked.spec, checked.data.hash
    return [
        Cell(
            base_model=point.base_model,
            base_model_hash=checked.models[point.base_model].source.hash,
            method=point.method.model_dump(mode="json", exclude_none=True),
            rank=point.rank,
            n_train_examples=point.n_train_examples,
            seed=point.seed,
            task=spec.task.model_dump(mode="json", exclude_none=True),
            data_hash=data_hash,
            training=spec.training.model_dump(mode="json"),
            evaluation=spec.evaluation.model_dump(mode="json"),
        )
        for point in points(spec)
    ]


def plan_packs(cells: Sequence[Cell], checked: CheckedStudy) -> list[list[Cell]]:
    """Group cells of one base model into packs of nearly equal size.

    Cells of similar length train together: a pack shrinks when a cell is done, and few cells at once are slow. Cells
    that train alone are packs of one. Base models come in the order of the study. How cells are grouped does
    not change their results.
    """
    groups: dict[tuple[str, TrainingPath], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.base_model, path_of(cell, checked.models[cell.base_model].skeleton.config)].append(cell)
    packs = []
    for (base_model, path), group in groups.items():
        group.sort(key=n_steps_of)
        n_packs = -(-len(group) // (_pack_size(group, checked, base_model) if path == "packed" else 1))
        packs += [group[len(group) * i // n_packs : len(group) * (i + 1) // n_packs] for i in range(n_packs)]
    return packs


def _pack_size(group: list[Cell], checked: CheckedStudy, base_model: str) -> int:
    spec = checked.spec
    if not spec.packing:
        return 1
    n_tokens = spec.training.batch_size * spec.training.max_length
    model, largest = checked.models[base_model], max(group, key=_rank)
    n_trainable = n_params_trainable(model.skeleton, largest.method, largest.rank)
    alpha = any(cell.method["name"] == "alpha-lora" for cell in group)
    of_cell = machine.cell_bytes(
        model.skeleton.config, n_tokens, _rank(largest), n_trainable, spec.training.dtype, has_row_scale=alpha
    )
    of_weights = 4 * model.n_params + (2 * model.n_params if spec.training.dtype == "bfloat16" else 0)
    room = int(MEMORY_SHARE * machine.available_bytes()) - of_weights
    return max(1, min(BEST_STEP_TOKENS // n_tokens, room // of_cell))


def _rank(cell: Cell) -> int:
    """0 where the method has none."""
    return cell.rank or 0
