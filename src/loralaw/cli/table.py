"""`loralaw table`: the numbers of a study, for any other tool."""

import sys
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loralaw.cli.console import printable
from loralaw.errors import InputError, StorageError

if TYPE_CHECKING:
    import polars as pl


class Format(StrEnum):
    """Of a printed table; a written one takes it from its ending."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def table(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A study folder.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A .csv, .json or .parquet file; standard output if not given."),
    ] = None,
    records: Annotated[
        bool,
        typer.Option(
            "--records",
            help="Put the whole study into the .parquet file, to hand it on: `loralaw report FILE` draws its page.",
        ),
    ] = False,
    form: Annotated[Format, typer.Option("--format", help="What standard output gets.")] = Format.CSV,
) -> None:
    """Print or write the table of a study: one row a cell that has ended."""
    from loralaw.store import open_study, write_study_file
    from loralaw.store.atomic import storage_error

    if records and (output is None or output.suffix.lower() != ".parquet"):
        raise InputError(f"--records is for a file: give -o FILE.parquet, not {output or 'standard output'}")
    if output is not None:
        if not output.parent.is_dir():
            raise InputError(f"{output}: {output.parent} is not a folder that exists")
        form = _by_ending(output)
    study = open_study(folder)
    rows = study.table()
    if output is None:
        printed = BytesIO()
        _write(rows, printed, form)
        sys.stdout.buffer.write(printed.getvalue())
        return
    try:
        write_study_file(study, output) if records else _write(rows, output, form)
    except StorageError:
        raise
    except OSError as error:
        raise storage_error(output, error) from None
    typer.echo(printable(f"{output}: {rows.height} rows"))


def _write(rows: "pl.DataFrame", target: Path | BytesIO, form: Format) -> None:
    match form:
        case Format.CSV:
            rows.write_csv(target)
        case Format.JSON:
            rows.write_json(target)
        case Format.PARQUET:
            rows.write_parquet(target)


def _by_ending(output: Path) -> Format:
    try:
        return Format(output.suffix.lower()[1:])
    except ValueError:
        accepted = ", ".join(f".{form}" for form in Format)
        raise InputError(f'{output}: the ending "{output.suffix}" is not one of {accepted}') from None
