"""`loralaw fit`: the laws of a study, or of any table of results."""

from typing import Annotated

import typer

from loralaw.cli.source import Source, Task, Template, table_of


def fit(
    source: Source,
    metric: Annotated[
        list[str] | None, typer.Option(help="Column of the metric; every known one if not given.", show_default=False)
    ] = None,
    axis: Annotated[
        list[str] | None, typer.Option(help="Column of the sizes; every known one if not given.", show_default=False)
    ] = None,
    joint: Annotated[bool, typer.Option("--joint", help="One law along all axes, instead of one along each.")] = False,
    task: Task = None,
    template: Template = None,
) -> None:
    """Fit a scaling law to every metric along every axis, and say what holds.

    A table has a row a run: a column for each axis and metric, and best a column `seed`.
    """
    from loralaw.cli.console import console
    from loralaw.laws import fit_all, fit_all_jointly
    from loralaw.report import terminal_joint_laws, terminal_laws

    table, screen = table_of(source, task, template), console()
    if joint:
        screen.print(terminal_joint_laws(fit_all_jointly(table, metrics=metric, axes=axis)))
    else:
        screen.print(terminal_laws(fit_all(table, metrics=metric, axes=axis)))
