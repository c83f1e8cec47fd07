"""What the commands on results read: a study, or a table that anyone wrote."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import polars as pl

Source = Annotated[
    Path,
    typer.Argument(metavar="DIR|TABLE", help="A study folder, or a table (CSV, Parquet, JSON).", show_default=False),
]
LargerIsBetter = Annotated[
    bool | None,
    typer.Option(
        "--larger-is-better/--smaller-is-better",
        help="The direction of the metric; the known one, or smaller, if not given.",
        show_default=False,
    ),
]
UNPRINTABLE = r"\p{C}"
"""Characters that end lines or that a terminal obeys: names of strangers may hold them."""


def table_of(source: Path) -> "pl.DataFrame":
    """The table of a study folder, or of a file; in names, what is no text on a line is shown as a sign for that."""
    import polars as pl

    from loralaw.laws import read_table
    from loralaw.store import open_study

    table = open_study(source).table() if source.is_dir() else read_table(source)
    named = pl.Series(table.columns, dtype=pl.String).str.replace_all(UNPRINTABLE, "\ufffd").to_list()
    table = table.rename(dict(zip(table.columns, named, strict=True)))
    return table.with_columns(pl.col(pl.String).str.replace_all(UNPRINTABLE, "\ufffd"))
