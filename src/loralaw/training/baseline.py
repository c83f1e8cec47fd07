"""What a base model scores before any training, to stand beside what its cells score."""

from typing import Any

from loralaw.models import BaseModel
from loralaw.spec import Cell
from loralaw.training.cell_settings import dtype_of
from loralaw.training.encoded_task import EncodedTask
from loralaw.training.measure import measure
from loralaw.training.plain_model import KEY, PlainModel
from loralaw.training.task_rows import TaskRows

_OF_BASE = ("cross_entropy", "accuracy", "choice_accuracy", "other_choice_accuracy")


def baseline(base: BaseModel, task: TaskRows, cell: Cell) -> dict[str, Any]:
    """Score the base model as it is on what its cells are tested on, and the commonest answer.

    Args:
        base: the base model; it is left as it was.
        task: its token rows.
        cell: any cell of the base and the task.

    Returns:
        `base_cross_entropy`, `base_accuracy` and so on, as far as they exist, `majority_accuracy`, and `other_tasks`:
        the scores on other tasks by name. A new classification head knows nothing, so that of a base with one there is
        the commonest answer alone.

    **Cost**: that of measuring one cell, once for each base model and task in a process.
    """
    beside: dict[str, Any] = {"majority_accuracy": task.majority_accuracy}
    if isinstance(task, EncodedTask):
        with PlainModel(base.model, dtype_of(cell)) as plain:
            measured = measure(plain, task)[KEY]
        beside |= {f"base_{name}": measured["metrics"].get(name) for name in _OF_BASE}
        beside["other_tasks"] = measured["other_tasks"]
    return {name: value for name, value in beside.items() if value is not None and value != {}}
