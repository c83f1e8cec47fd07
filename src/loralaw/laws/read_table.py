"""A table of results from a file, whoever wrote it."""

from pathlib import Path

import polars as pl

from loralaw.errors import TableError

ENDINGS = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".ndjson")

_MISSING = ["", "NA", "N/A", "None", "null", "nan", "NaN"]


def read_table(path: str | Path) -> pl.DataFrame:
    """Read a table with a header: CSV, TSV, Parquet, JSON (a list of objects) or JSON Lines, told by the ending.

    Raises:
        TableError: There is no such file, its ending is another, it cannot be read as what its ending says, or two of
            its columns have one name.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if not path.is_file():
        raise TableError(f"{path}: no such file; give a study folder, or a table ({', '.join(ENDINGS)})")
    if ending not in ENDINGS:
        raise TableError(f'{path}: the ending "{path.suffix}" is none of {", ".join(ENDINGS)}')
    try:
        match ending:
            case ".csv" | ".tsv":
                separator = "," if ending == ".csv" else "\t"
                table = pl.read_csv(path, separator=separator, infer_schema_length=None, null_values=_MISSING)
                return _checked(table, path)
            case ".parquet":
                return pl.read_parquet(path)
            case ".json":
                return pl.read_json(path)
            case _:
                return pl.read_ndjson(path, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise TableError(f"{path} cannot be read as {ending[1:]}: {reason}") from None


def _checked(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Refuse what polars reads without a word: a name that comes twice, another separator."""
    for name in table.columns:
        first, _, number = name.rpartition("_duplicated_")
        if number.isdigit() and first in table.columns:
            raise TableError(f'{path}: two columns have the name "{first}": give each its own')
    other = next((sign for sign in ";\t|" if table.width == 1 and sign in table.columns[0]), None)
    if other:
        raise TableError(f"{path}: its columns are separated by {other!r}: save it with commas, or as .tsv with tabs")
    return table
