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
Task = Annotated[
    str | None, typer.Option(help="Only the cells of this task, where there are several.", show_default=False)
]
UNPRINTABLE = r"\p{C}"
"""Characters that end lines or that a terminal obeys: names of strangers may hold them."""


Template = Annotated[
    str | None, typer.Option(help="Only the cells of this template, where there are several.", show_default=False)
]


def table_of(source: Path, task: str | None = None, template: str | None = None) -> "pl.DataFrame":
    """The table of a study folder, or of a file; in names, what is no text on a line is shown as a sign for that.

    Args:
        source: the folder or the file.
        task: keep the rows of this task.
        template: keep the rows of this template.

    Raises:
        TableError: there is no such task or template.
    """
    import polars as pl

    from loralaw.laws import read_table
    from loralaw.store import open_study

    table = open_study(source).table() if source.is_dir() else read_table(source)
    named = pl.Series(table.columns, dtype=pl.String).str.replace_all(UNPRINTABLE, "\ufffd").to_list()
    table = table.rename(dict(zip(table.columns, named, strict=True)))
    table = table.with_columns(pl.col(pl.String).str.replace_all(UNPRINTABLE, "\ufffd"))
    for column, name in (("task", task), ("template", template)):
        if name is not None:
            table = _only(table, column, name, source)
    return table


def _only(table: "pl.DataFrame", column: str, name: str, source: Path) -> "pl.DataFrame":
    """The rows with this name in the column."""
    import polars as pl

    from loralaw.errors import TableError, did_you_mean

    there = column in table.columns
    names = table[column].drop_nulls().unique().sort().cast(pl.String).to_list() if there else []
    if name not in names:
        known = ", ".join(names) or "none"
        raise TableError(f'{source} has no {column} "{name}"; it has {known}.{did_you_mean(name, names)}')
    return table.filter(pl.col(column).cast(pl.String) == name)
