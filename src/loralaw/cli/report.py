"""`loralaw report`: one page that opens anywhere."""

from pathlib import Path
from typing import Annotated

import typer

from loralaw.cli.console import printable


def report(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR|FILE",
            help="A study folder, or a Parquet file that `loralaw table --records` wrote.",
            show_default=False,
        ),
    ],
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write report.html into the study folder, or beside the file: laws, cells, costs and settings on one page."""
    from loralaw.report import write_report
    from loralaw.store import read_study

    path = write_report(read_study(source))
    typer.echo(printable(str(path)))
    if open_:
        typer.launch(str(path))
