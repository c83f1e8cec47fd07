"""`loralaw report`: one page that opens anywhere."""

from pathlib import Path
from typing import Annotated

import typer

from loralaw.cli.console import printable


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study folder.", show_default=False)],
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write report.html into the study folder: laws, cells, costs and settings in one file."""
    from loralaw.report import write_report
    from loralaw.store import open_study

    path = write_report(open_study(folder))
    typer.echo(printable(str(path)))
    if open_:
        typer.launch(str(path))
