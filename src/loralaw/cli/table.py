"""`loralaw table`: the numbers of a study, for any other tool."""

from pathlib import Path
from typing import Annotated

import typer

from loralaw.errors import InputError


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
    try:
        match output.suffix.lower():
            case ".csv":
                rows.write_csv(output)
            case ".json":
                rows.write_json(output)
            case ".parquet":
                rows.write_parquet(output)
            case ending:
                raise InputError(f'{output}: the ending "{ending}" is not one of .csv, .json, .parquet')
    except OSError as error:
        raise storage_error(output, error) from None
    typer.echo(f"{output}: {rows.height} rows")
