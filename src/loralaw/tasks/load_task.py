"""From the task section of a study to its data."""

from loralaw.errors import DataError, did_you_mean
from loralaw.spec import FILE_ENDINGS, TaskSpec, TemplateSpec
from loralaw.tasks import stdlib_code
from loralaw.tasks.task_data import TaskData
from loralaw.tasks.text_file import text_file

EMBEDDED = {stdlib_code.NAME: stdlib_code.stdlib_code}


def load_task(task: TaskSpec, template: TemplateSpec | None = None) -> TaskData:
    """Load a task.

    Args:
        task: which.
        template: how its rows become text; None: the task's own way.

    Raises:
        DataError: there is no such task, or its data cannot be used.
    """
    if task.name is None:
        return text_file(task)
    if task.name not in EMBEDDED:
        raise DataError(
            f'"{task.name}" is not an embedded task ({", ".join(EMBEDDED)}) or a {", ".join(FILE_ENDINGS)} file.'
            f"{did_you_mean(task.name, EMBEDDED)}"
        )
    return EMBEDDED[task.name]()
