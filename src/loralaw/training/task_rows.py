"""From a task's data to the token rows that a base model is trained and measured on."""

from loralaw.models import BaseModel
from loralaw.spec import Cell
from loralaw.tasks import TaskData
from loralaw.training.encoded_labels import EncodedLabels
from loralaw.training.encoded_task import EncodedTask

TaskRows = EncodedTask | EncodedLabels


def encode_task(data: TaskData, base: BaseModel, cell: Cell, n_train_max: int) -> TaskRows:
    """Encode a task for a base model.

    Args:
        data: the task.
        base: gives the tokenizer.
        cell: any cell of the task; its lengths and evaluation settings are those of all.
        n_train_max: the largest training set that will be asked for.

    Raises:
        DataError: a chat template is asked for and the tokenizer has none.
    """
    kind = EncodedTask if data.target is None else EncodedLabels
    return kind(data, base, cell, n_train_max)
