"""`loralaw table`: the numbers of a study, for any other tool."""

from pathlib import Path
from typing import Annotated

import typer

from loralaw.errors import InputError

ENDINGS = (".csv", ".json", ".parquet")


def table(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study folder.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A .csv, .json or .parquet file; standard output (CSV) if not given."),
    ] = None,
) -> None:
    """Print or write the table of a study: one row a cell that has ended."""
    from loralaw.store import open_study
    from loralaw.store.atomic import storage_error

    rows = open_study(folder).table()
    if output is None:
        typer.echo(rows.write_csv(), nl=False)
        return
    write = {".csv": rows.write_csv, ".json": rows.write_json, ".parquet": rows.write_parquet}.get(
        output.suffix.lower()
    )
    if write is None:
        raise InputError(f"{output}: the ending {output.suffix!r} is not one of {', '.join(ENDINGS)}")
    try:
        write(output)
    except OSError as error:
        raise storage_error(output, error) from None
    typer.echo(f"{output}: {rows.height} rows")
