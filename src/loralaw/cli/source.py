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


def table_of(source: Path, task: str | None = None) -> "pl.DataFrame":
    """The table of a study folder, or of a file; in names, what is no text on a line is shown as a sign for that.

    Args:
        source: the folder or the file.
        task: keep the rows of this task.

    Raises:
        TableError: there is no such task.
    """
    import polars as pl

    from loralaw.errors import TableError, did_you_mean
    from loralaw.laws import read_table
    from loralaw.store import open_study

    table = open_study(source).table() if source.is_dir() else read_table(source)
    named = pl.Series(table.columns, dtype=pl.String).str.replace_all(UNPRINTABLE, "\ufffd").to_list()
    table = table.rename(dict(zip(table.columns, named, strict=True)))
    table = table.with_columns(pl.col(pl.String).str.replace_all(UNPRINTABLE, "\ufffd"))
    if task is None:
        return table
    tasks = table["task"].drop_nulls().unique().sort().cast(pl.String).to_list() if "task" in table.columns else []
    if task not in tasks:
        known = ", ".join(tasks) or "none: it has no column task"
        raise TableError(f'{source} has no task "{task}"; it has {known}.{did_you_mean(task, tasks)}')
    return table.filter(pl.col("task").cast(pl.String) == task)
