"""From the task section of a study to its data."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from loralaw.errors import DataError, did_you_mean
from loralaw.spec import FILE_ENDINGS, TaskSpec, TemplateSpec
from loralaw.tasks import stdlib_code
from loralaw.tasks.choice_task import ChoiceTask
from loralaw.tasks.commonsense import COMMONSENSE
from loralaw.tasks.glue import GLUE
from loralaw.tasks.labelled_task import LabelledTask
from loralaw.tasks.task_data import TaskData
from loralaw.tasks.text_file import text_file


@dataclass(frozen=True)
class StdlibCode:
    """The embedded task, among the others."""

    id: str = stdlib_code.NAME
    kind: str = "text"
    metric: str = "cross-entropy, choice accuracy"


TASKS: Mapping[str, StdlibCode | ChoiceTask | LabelledTask] = MappingProxyType(
    {task.id: task for task in (StdlibCode(), *COMMONSENSE, *GLUE)}
)
"""Every task that has a name."""


def n_labels_of(task: TaskSpec) -> int | None:
    """Outputs of the head that a task needs, without its data; None where text is learned, or nobody knows the task."""
    known = TASKS.get(task.name or "")
    return known.n_labels if isinstance(known, LabelledTask) else None


def load_task(task: TaskSpec, template: TemplateSpec | None = None) -> TaskData:
    """Load a task.

    Args:
        task: which.
        template: how its rows become text; None: the task's own way.

    Raises:
        DataError: there is no such task, its data cannot be used, or the template does not fit it.
    """
    if task.name is None:
        return text_file(task, template)
    if task.name not in TASKS:
        raise DataError(
            f'"{task.name}" is not a task ({", ".join(TASKS)}) or a {", ".join(FILE_ENDINGS)} file.'
            f"{did_you_mean(task.name, TASKS)}"
        )
    known = TASKS[task.name]
    if not isinstance(known, StdlibCode):
        return known.load(task.data_dir, template)
    if template is not None:
        raise DataError(
            f'template "{template.name}": {known.id} is source code as it is: it has no templates; give none'
        )
    if task.data_dir is not None:
        raise DataError(f'data_dir "{task.data_dir}": {known.id} is read from the running Python; give none')
    return stdlib_code.stdlib_code()
