"""`loralaw tasks`: the tasks that have a name, and what one of them is made of."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loralaw.cli.console import console, printable
from loralaw.errors import DataError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from loralaw.spec import TaskSpec, TemplateSpec
    from loralaw.tasks import TaskData


def tasks(
    check: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Load this task, and say what it is made of.", show_default=False),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder with the files of the task; LORALAW_DATA if not given, else the hub.",
            show_default=False,
        ),
    ] = None,
    template: Annotated[
        str | None, typer.Option(metavar="NAME", help="Template of a multiple-choice task.", show_default=False)
    ] = None,
) -> None:
    """List the tasks that have a name, or load one and show its splits and its first row."""
    if check is None:
        if data_dir is not None or template is not None:
            raise DataError("--data-dir and --template are for one task: give its name with --check TASK")
        console().print(_list())
        return
    from loralaw.tasks import load_task

    task, template_spec = _specs(check, data_dir, template)
    console().print(_summary(load_task(task, template_spec)))


def _specs(check: str, data_dir: Path | None, template: str | None) -> tuple["TaskSpec", "TemplateSpec | None"]:
    from pydantic import ValidationError

    from loralaw.spec import TaskSpec, TemplateSpec

    try:
        return TaskSpec(name=check, data_dir=data_dir), TemplateSpec(name=template) if template is not None else None
    except ValidationError:
        raise DataError(
            f'--check "{check}", --template "{template}": a name is letters, digits, ".", "_", "-"'
        ) from None


def _list() -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    from loralaw.tasks import TASKS
    from loralaw.tasks.load_task import StdlibCode

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("task", "kind", "data on the hub", "train, test", "metric"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "task")
    for task in TASKS.values():
        if isinstance(task, StdlibCode):
            data, splits = "none: the running Python's source", "modules"
        else:
            data, splits = f"{task.source.hub_repo} {task.source.hub_config}", f"train, {task.hub_test}"
        table.add_row(*(Text(part) for part in (task.id, task.kind, data, splits, task.metric)))
    return table


def _summary(data: "TaskData") -> "RenderableType":
    """What a task is made of. Its rows are shown as text, never as markup."""
    from rich.table import Table
    from rich.text import Text

    from loralaw.report.wording import significant

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    majority = data.majority_accuracy()
    for name, said in (
        ("task", data.name),
        *((split, f"{len(getattr(data, split)):,} rows") for split in ("train", "validation", "test")),
        *([("questions", f"{len(data.choices):,}")] if data.choices else []),
        *(
            []
            if majority is None
            else [("majority", f"accuracy {significant(majority)} of always the commonest answer")]
        ),
        *(("note", note) for note in data.notes),
        ("hash", data.hash),
        *_first_row(data),
    ):
        grid.add_row(Text(name), Text(printable(said)))
    return grid


def _first_row(data: "TaskData") -> list[tuple[str, str]]:
    """The first training row, in quotes, so that blanks at its ends are seen."""
    from loralaw.tasks import Labelled

    row = data.train[0]
    if isinstance(row, Labelled):
        other = [] if row.other_text is None else [("other text", f'"{row.other_text}"')]
        assert data.target is not None
        label = f"{row.label:.0f} ({data.target.classes[int(row.label)]})" if data.target.classes else f"{row.label:g}"
        return [("text", f'"{row.text}"'), *other, ("label", label)]
    chat = [("chat", "in the turns of the tokenizer's chat template")] if data.is_chat else []
    return [("prompt", f'"{row.prompt}"'), ("completion", f'"{row.completion}"'), *chat]
