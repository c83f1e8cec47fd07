"""The cells of a study as the report shows them: settings, configurations, failures, rows of the table."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import polars as pl

from loralaw.report.layer_measures import stderr_name
from loralaw.report.wording import duration, significant, size, whole

CONFIGURATION = ["base_model", "method", "rank", "n_train_examples", "task", "template"]
"""What a user chooses; cells of one configuration differ by seed only."""

MAX_CELLS_SHOWN = 400
"""Points and table rows of one page; more would not fit the 6 MB with plotly's script inside."""

COLUMNS: list[tuple[str, str, str]] = [
    ("base_model", "Base model", "text"),
    ("method", "Method", "text"),
    ("rank", "Rank", "whole"),
    ("n_train_examples", "Examples", "whole"),
    ("task", "Task", "text"),
    ("template", "Template", "text"),
    ("seed", "Seed", "whole"),
    ("status", "Status", "text"),
    ("cross_entropy", "Cross‑entropy (nats)", "number"),
    ("accuracy", "Accuracy", "number"),
    ("choice_accuracy", "Choice accuracy", "number"),
    ("base_choice_accuracy", "Base’s choice accuracy", "number"),
    ("majority_accuracy", "Commonest answer", "number"),
    ("f1", "F1", "number"),
    ("matthews_correlation", "Matthews", "number"),
    ("pearson", "Pearson", "number"),
    ("spearman", "Spearman", "number"),
    ("other_choice_accuracy", "Other tasks", "number"),
    ("miub_nats", "MIUB (nats)", "number"),
    ("train_seconds", "Training", "seconds"),
]
"""Column, heading, kind. A column without any value is not shown."""


@dataclass(frozen=True)
class TableCell:
    """What is read and what is sorted by."""

    text: str
    sort_by: str
    numeric: bool


def finished(table: pl.DataFrame) -> pl.DataFrame:
    """The rows with a result."""
    return table.filter(pl.col("status") == "finished")


def shown(table: pl.DataFrame) -> pl.DataFrame:
    """The table, or an even pick of `MAX_CELLS_SHOWN` of its rows; failed cells come first in the pick."""
    if table.height <= MAX_CELLS_SHOWN:
        return table
    failed = table.filter(pl.col("status") != "finished").head(MAX_CELLS_SHOWN // 2)
    rest, room = finished(table), MAX_CELLS_SHOWN - failed.height
    picked = rest[[i * rest.height // room for i in range(min(room, rest.height))]]
    return pl.concat([failed, picked])


def folder(key: str) -> str:
    """The link from the report to a cell's folder; both lie in the study's folder."""
    return f"cells/{quote(key, safe='')}/"


def label(row: dict[str, Any], several_methods: bool = True) -> str:
    """`micro-6m · rank 16 · 4,096 examples`, or `micro-6m · full fine-tuning · 4,096 examples`."""
    parts = [
        _short(row["base_model"]),
        *_adaptation(row, several_methods),
        f"{whole(row['n_train_examples'])} examples",
    ]
    if row.get("template") is not None:
        parts.append(f"template {row['template']}")
    return " · ".join(parts)


def _adaptation(row: dict[str, Any], several_methods: bool) -> list[str]:
    """Method and rank, as far as there are several methods and as the method has a rank."""
    if row["rank"] is None:
        name, _, settings = str(row["method"]).partition("(")
        named = "full fine-tuning" if name == "full" else name
        return [f"{named} ({settings}" if settings else named]
    rank = f"rank {whole(row['rank'])}"
    return [str(row["method"]), rank] if several_methods else [rank]


def hover_lines(row: dict[str, Any]) -> list[str]:
    """What a point says when it is pointed at, line by line."""
    lines = [
        label(row),
        f"seed {row['seed']} · {size(row['n_params_total'])} parameters" if row["n_params_total"] else "",
    ]
    if row["cross_entropy"] is not None:
        error = f" ± {significant(row['cross_entropy_stderr'], 2)}" if row["cross_entropy_stderr"] is not None else ""
        lines.append(f"cross-entropy {significant(row['cross_entropy'])}{error} nats")
    if row["train_seconds"] is not None:
        lines.append(f"trained in {duration(row['train_seconds'])}")
    return [line for line in lines if line]


def columns_with_values(table: pl.DataFrame) -> list[tuple[str, str, str]]:
    """The columns of `COLUMNS` that hold anything; status and settings always."""
    always = {"base_model", "n_train_examples", "seed", "status"}
    columns = [
        c for c in COLUMNS if c[0] in always or (c[0] in table.columns and table[c[0]].null_count() < table.height)
    ]
    return [c for c in columns if c[0] not in ("method", "task") or table[c[0]].n_unique() > 1]


def table_rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    """One entry a row: its cells and its folder."""
    columns = columns_with_values(table)
    return [
        {
            "cells": [_table_cell(row, name, kind) for name, _, kind in columns],
            "key": row["key"],
            "folder": folder(row["key"]),
            "status": row["status"],
        }
        for row in table.iter_rows(named=True)
    ]


def failures(table: pl.DataFrame, records: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Every cell that ended without a result (`MAX_CELLS_SHOWN` at most): what it is, how it ended and why."""
    reasons = {r["key"]: " ".join(str(r.get("reason") or "no reason was recorded").split()) for r in records}
    failed = table.filter(pl.col("status") != "finished").head(MAX_CELLS_SHOWN)
    return [
        {
            "label": f"{label(row, table['method'].n_unique() > 1)} · seed {row['seed']}",
            "status": row["status"],
            "reason": reasons[row["key"]],
            "key": row["key"],
            "folder": folder(row["key"]),
        }
        for row in failed.iter_rows(named=True)
    ]


def _table_cell(row: dict[str, Any], name: str, kind: str) -> TableCell:
    value = row[name]
    if kind == "text":
        return TableCell("" if value is None else str(value), "" if value is None else str(value), False)
    text = {"whole": whole, "number": significant, "seconds": duration}[kind](value)
    error = row.get(stderr_name(name))
    if error is not None and value is not None:
        text += f" ± {significant(error, 2)}"
    return TableCell(text, "" if value is None else f"{value:.6g}" if kind != "whole" else str(value), True)


def _short(name: str, limit: int = 60) -> str:
    """A name that may be a long path: its end, which tells it apart."""
    name = re.sub(r"\s+", " ", name)
    return name if len(name) <= limit else "…" + name[-(limit - 1) :]
