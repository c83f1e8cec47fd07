"""The rows of a study's tasks, in every template, and what is wrong with them."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

from loralaw.errors import DataError, Problem
from loralaw.spec import StudySpec, TaskSpec, TemplateSpec
from loralaw.tasks import Choice, TaskData, load_task

Text = tuple[TaskSpec, TemplateSpec | None]
"""A task, and how its rows become text; None: the task's own way."""
Load = Callable[..., TaskData]
"""As `load_task`."""


def load_data(spec: StudySpec) -> tuple[dict[Text, TaskData], list[Problem]]:
    """Load every task in every template of a study; what several ask for is read once."""
    load = cache(load_task)
    data, problems = dict[Text, TaskData](), list[Problem]()
    for at, task in enumerate(spec.all_tasks):
        where = "task" if spec.task else f"tasks[{at}]"
        try:
            own_way = load(task)
        except DataError as error:
            problems.append(Problem(where, str(error)))
            continue
        if not spec.templates:
            data[task, None] = own_way
        for number, template in enumerate(spec.templates):
            try:
                data[task, template] = load(task, template)
            except DataError as error:
                problems.append(Problem(f"templates[{number}]", str(error)))
    if spec.evaluation.split == "validation":
        data = {text: each.scored_on_validation() for text, each in data.items()}
    if len({each.target is None for each in data.values()}) > 1:
        text = "some have labels and need a head, others are text: give each kind a study of its own"
        problems.append(Problem("tasks", text))
    elif data and spec.evaluation.other_tasks:
        data, of_others = _with_other_questions(data, spec, load)
        problems += of_others
    return data, problems


def _with_other_questions(
    data: dict[Text, TaskData], spec: StudySpec, load: Load
) -> tuple[dict[Text, TaskData], list[Problem]]:
    """The questions of tasks that a cell is not trained on, in the template that it is trained in."""
    if any(each.target is not None for each in data.values()):
        text = "a model with a classification head answers no other questions: leave this out"
        return data, [Problem("evaluation.other_tasks", text)]
    found, problems = dict[Text, TaskData](), list[Problem]()
    for (task, template), own in data.items():
        others = dict[str, list[Choice]]()
        for at, name in enumerate(spec.evaluation.other_tasks):
            if name == task.name:
                continue  # its own questions are asked anyway
            try:
                others[name] = _questions(load(TaskSpec(name=name, data_dir=task.data_dir), template))
            except DataError as error:
                problems.append(Problem(f"evaluation.other_tasks[{at}]", str(error)))
        found[task, template] = replace(own, other_questions=others)
    return found, list(dict.fromkeys(problems))


def _questions(data: TaskData) -> list[Choice]:
    """Raises DataError."""
    if not data.choices:
        raise DataError(f'"{data.name}" has no questions to score: name a multiple-choice task (`loralaw tasks`)')
    return data.choices
