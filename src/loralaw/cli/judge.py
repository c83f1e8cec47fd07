"""`loralaw judge`: which metric obeys the law."""

from typing import Annotated

import typer

from loralaw.cli.source import Source, Task, Template, table_of


def judge(
    source: Source,
    metric: Annotated[
        list[str] | None, typer.Option(help="Column to score; every known one if not given.", show_default=False)
    ] = None,
    axis: Annotated[
        list[str] | None, typer.Option(help="Column of sizes; every known one if not given.", show_default=False)
    ] = None,
    reference: Annotated[str, typer.Option(help="Column that is compared with the rivals.")] = "miub_nats",
    rival: Annotated[
        list[str] | None,
        typer.Option(help="Column; cross-entropy, perplexity and norm ratio if not given.", show_default=False),
    ] = None,
    task: Task = None,
    template: Template = None,
) -> None:
    """Score every metric by how well it obeys the law along every axis, and compare MIUB with the others."""
    from loralaw.cli.console import console
    from loralaw.laws import RIVALS
    from loralaw.laws import judge as judge_table
    from loralaw.report import terminal_judgement

    found = judge_table(
        table_of(source, task, template), metrics=metric, axes=axis, reference=reference, rivals=rival or RIVALS
    )
    console().print(terminal_judgement(found))
