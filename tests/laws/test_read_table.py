"""Tables that other tools wrote."""

from pathlib import Path

import polars as pl
import pytest

from loralaw.errors import TableError
from loralaw.laws import read_table

ROWS = pl.DataFrame({"rank": [1, 4, 16], "loss": [2.0, 1.5, None], "note": ["a", "b", "c"]})


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "json", "jsonl", "ndjson"])
def test_every_kind_of_file_gives_the_same_table(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending.upper()}"
    match ending:
        case "csv":
            ROWS.write_csv(path)
        case "tsv":
            ROWS.write_csv(path, separator="\t")
        case "parquet":
            ROWS.write_parquet(path)
        case "json":
            ROWS.write_json(path)
        case _:
            ROWS.write_ndjson(path)
    assert read_table(path).equals(ROWS)


def test_missing_values_as_people_write_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("rank,loss\n1,2.0\n4,NA\n16,\n64,nan\n")
    loss = read_table(tmp_path / "t.csv")["loss"]
    assert loss.dtype == pl.Float64
    assert loss.null_count() == 3


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("none.csv", None, "no such file"),
        ("t.xlsx", b"PK", 'the ending ".xlsx" is none of'),
        ("t.parquet", b"not parquet", "cannot be read as parquet"),
        ("t.json", b"{", "cannot be read as json"),
        ("t.csv", b"", "cannot be read as csv"),
        ("t.csv", b"rank,loss\n1,\xff\xfe\n", "cannot be read as csv"),
        ("t.csv", b"rank,loss,loss\n1,2,3\n", 'two columns have the name "loss"'),
        ("t.csv", b"rank;loss\n1;2\n", "separated by ';'"),
    ],
)
def test_what_is_no_table(name: str, content: bytes | None, part: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=part):
        read_table(tmp_path / name)
