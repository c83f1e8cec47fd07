"""Which rows are held out: the same ones every time, and no text in two splits."""

import hashlib
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from loralaw.errors import DataError

Row = TypeVar("Row")

MIN_SPLIT_ROWS = 2


def split_of(text: str, held_out: Collection[str]) -> str:
    """Where a row goes: a tenth to each held-out split, by a hash of its text, so that equal texts stay together."""
    bucket = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0] % 10
    name = {8: "validation", 9: "test"}.get(bucket, "train")
    return name if name in held_out else "train"


def cut_validation(rows: Iterable[Row], text_of: Callable[[Row], str]) -> tuple[list[Row], list[Row]]:
    """Rows to train on, and a tenth of them to validate on."""
    splits: dict[str, list[Row]] = {"train": [], "validation": []}
    for row in rows:
        splits[split_of(text_of(row), ("validation",))].append(row)
    return splits["train"], splits["validation"]


def without_held_out(rows: list[Row], held_out: Iterable[Row], text_of: Callable[[Row], str]) -> list[Row]:
    """The rows whose text is not held out as well: some data sets repeat rows between their splits."""
    texts = {text_of(row) for row in held_out}
    return [row for row in rows if text_of(row) not in texts]


def check_sizes(name: str, **splits: Collection[object]) -> None:
    """Refuse splits that are too small to train or measure on.

    Raises:
        DataError: a split has fewer than MIN_SPLIT_ROWS rows.
    """
    for split, rows in splits.items():
        if len(rows) < MIN_SPLIT_ROWS:
            raise DataError(
                f"{name}: {len(rows)} rows are left for {split}, at least {MIN_SPLIT_ROWS} are needed: give more rows"
            )
