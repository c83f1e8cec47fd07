"""`loralaw fit`: the laws of a study, metric by metric and axis by axis."""

from pathlib import Path
from typing import Annotated

import typer


def fit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study folder.", show_default=False)],
) -> None:
    """Fit a power law with a floor to every metric along every axis, and say what holds."""
    from loralaw.cli.console import console
    from loralaw.report import terminal_laws
    from loralaw.store import open_study

    console().print(terminal_laws(open_study(folder)))
