"""Small benchmark files in both layouts: a folder of the user's, and the hub's cache on a machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

Rows = Sequence[Mapping[str, Any]]


def local_rows(n: int, n_choices: int = 2, answer: str = "solution", start: int = 0) -> list[dict[str, Any]]:
    """Multiple-choice rows as in a folder of the user's; the label follows from the number of the row."""
    return [
        {
            "instruction": f"Choose for case {i}.",
            "answer": f"{answer}{i % n_choices + 1}",
            "question": f"What about case {i}?",
            "choices": [f"option {k} of {i}" for k in range(n_choices)],
            "label": i % n_choices,
        }
        for i in range(start, start + n)
    ]


def pairs(n: int, columns: tuple[str, ...], n_classes: int = 2, start: int = 0) -> list[dict[str, Any]]:
    """Labelled rows with these text columns."""
    return [{**{c: f"{c} of {i}" for c in columns}, "label": i % n_classes} for i in range(start, start + n)]


def write_local(folder: Path, **splits: Rows) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in splits.items():
        pl.DataFrame(rows).write_parquet(folder / f"{name}.parquet")
    return folder


def write_hub_cache(cache: Path, repo: str, config: str, **splits: Rows) -> None:
    """What the hub client finds without a network."""
    place = cache / f"datasets--{repo.replace('/', '--')}"
    (place / "refs" / "refs" / "convert").mkdir(parents=True, exist_ok=True)
    (place / "refs" / "refs" / "convert" / "parquet").write_text("0" * 40)
    for name, rows in splits.items():
        folder = place / "snapshots" / ("0" * 40) / config / name
        folder.mkdir(parents=True)
        pl.DataFrame(rows).write_parquet(folder / "0000.parquet")
