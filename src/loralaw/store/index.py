"""The rows of all ended cells in one file, so that a large study is not read record by record every time.

The index is derived: a row holds as long as its record has the size and the time of change that it had, and a missing,
torn or foreign index is made anew from the records.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl

from loralaw.store.atomic import replace_file
from loralaw.store.table import COLUMNS, row_of

_STAMPS: dict[str, pl.DataType] = {"base_model_hash": pl.String(), "mtime_ns": pl.Int64(), "n_bytes": pl.Int64()}
_SCHEMA = pl.Schema({**COLUMNS, **_STAMPS})

_BLOCK_ROWS = 1000
"""Rows that are dictionaries at a time: those take a kilobyte and more each."""

ReadRecord = Callable[[str], dict[str, Any] | None]


def ended_cells(folder: Path, read_record: ReadRecord) -> pl.DataFrame:
    """One row a cell folder with a record: the table's columns, the hash of the base model, and the record's stamp.

    Args:
        folder: the study folder.
        read_record: reads the record of a key.

    Raises:
        StudyFolderError: a record is damaged.
    """
    stamps = _stamps(folder / "cells")
    known = _read(folder).join(stamps, on=("key", "mtime_ns", "n_bytes"), how="semi")
    new = stamps.join(known, on="key", how="anti")
    blocks = [_rows_of(block, read_record) for block in new.iter_slices(_BLOCK_ROWS)]
    return pl.concat([known, *blocks])


def _rows_of(stamps: pl.DataFrame, read_record: ReadRecord) -> pl.DataFrame:
    rows = [
        {**row_of(record), "base_model_hash": record["cell"]["base_model_hash"], "mtime_ns": mtime, "n_bytes": n_bytes}
        for key, mtime, n_bytes in stamps.iter_rows()
        if (record := read_record(key)) is not None
    ]
    return pl.DataFrame(rows, schema=_SCHEMA)


def write_index(folder: Path, rows: pl.DataFrame) -> None:
    """Keep what `ended_cells` found. A disk that refuses is no harm: the rows are read from the records again."""
    with suppress(OSError):
        replace_file(_path(folder), lambda file: rows.write_parquet(file))


def _path(folder: Path) -> Path:
    return folder / "index.parquet"


def _read(folder: Path) -> pl.DataFrame:
    with suppress(OSError, pl.exceptions.PolarsError):
        rows = pl.read_parquet(_path(folder))
        if rows.schema == _SCHEMA:
            return rows
    return pl.DataFrame(schema=_SCHEMA)


def _stamps(cells: Path) -> pl.DataFrame:
    """(key, time of change, size) of every record there is."""
    keys, times, sizes = [], [], []
    with suppress(FileNotFoundError), os.scandir(cells) as folders:
        for folder in folders:
            with suppress(FileNotFoundError, NotADirectoryError):
                found = os.stat(os.path.join(folder.path, "record.json"))
                keys.append(folder.name)
                times.append(found.st_mtime_ns)
                sizes.append(found.st_size)
    schema = {"key": pl.String(), "mtime_ns": pl.Int64(), "n_bytes": pl.Int64()}
    return pl.DataFrame({"key": keys, "mtime_ns": times, "n_bytes": sizes}, schema=schema)
