"""From records to the table of a study: one row a cell, one column a number."""

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

import polars as pl

from loralaw.errors import LoralawError
from loralaw.spec import method_class

COLUMNS: dict[str, pl.DataType] = {
    "key": pl.String(),
    "base_model": pl.String(),
    "method": pl.String(),
    "rank": pl.Int64(),
    "n_train_examples": pl.Int64(),
    "n_train_tokens": pl.Int64(),
    "n_params_total": pl.Int64(),
    "n_params_trainable": pl.Int64(),
    "task": pl.String(),
    "template": pl.String(),
    "seed": pl.Int64(),
    "status": pl.String(),
    "cross_entropy": pl.Float64(),
    "cross_entropy_stderr": pl.Float64(),
    "cross_entropy_per_byte": pl.Float64(),
    "perplexity": pl.Float64(),
    "accuracy": pl.Float64(),
    "accuracy_stderr": pl.Float64(),
    "choice_accuracy": pl.Float64(),
    "choice_accuracy_stderr": pl.Float64(),
    "choice_accuracy_sum": pl.Float64(),
    "choice_accuracy_sum_stderr": pl.Float64(),
    "f1": pl.Float64(),
    "f1_stderr": pl.Float64(),
    "matthews_correlation": pl.Float64(),
    "matthews_correlation_stderr": pl.Float64(),
    "pearson": pl.Float64(),
    "pearson_stderr": pl.Float64(),
    "spearman": pl.Float64(),
    "spearman_stderr": pl.Float64(),
    "mean_squared_error": pl.Float64(),
    "mean_squared_error_stderr": pl.Float64(),
    "majority_accuracy": pl.Float64(),
    "base_cross_entropy": pl.Float64(),
    "base_accuracy": pl.Float64(),
    "base_choice_accuracy": pl.Float64(),
    "other_choice_accuracy": pl.Float64(),
    "base_other_choice_accuracy": pl.Float64(),
    "miub_nats": pl.Float64(),
    "miub_stderr_nats": pl.Float64(),
    "jsd_nats": pl.Float64(),
    "jsd_stderr_nats": pl.Float64(),
    "jsd_standardised_nats": pl.Float64(),
    "jsd_standardised_stderr_nats": pl.Float64(),
    "gaussian_coordinate_nats": pl.Float64(),
    "gaussian_coordinate_stderr_nats": pl.Float64(),
    "norm_ratio": pl.Float64(),
    "cosine": pl.Float64(),
    "effective_rank": pl.Float64(),
    "train_loss": pl.Float64(),
    "n_train_examples_cut": pl.Int64(),
    "n_test_rows_cut": pl.Int64(),
    "n_questions_cut": pl.Int64(),
    "n_steps": pl.Int64(),
    "n_tokens_processed": pl.Int64(),
    "train_seconds": pl.Float64(),
    "train_flops": pl.Float64(),
    "evaluate_seconds": pl.Float64(),
    "evaluate_flops": pl.Float64(),
    "peak_memory_bytes": pl.Int64(),
    "path": pl.String(),
    "n_cells_together": pl.Int64(),
    "device": pl.String(),
}
"""Units: cross-entropy nats a token (per byte: nats a byte of text), MIUB and Jensen-Shannon nats, times seconds.

`base_…` are what the base model scores without any adapter, `majority_accuracy` what the commonest answer does, and
`…other_choice_accuracy` the mean over tasks that the cell was not trained on. `…_cut` count texts that were longer than
`max_length`. `rank` is null for full fine-tuning. `path` is the way a cell was trained: packed, or trainer (alone,
transformers').
"""

COSTS_OF_A_RUN = ("train_seconds", "evaluate_seconds", "peak_memory_bytes", "n_cells_together", "device")
"""What another run of the same cell may find otherwise; all other columns are the same in any company."""


def table_of(records: Iterable[dict[str, Any]]) -> pl.DataFrame:
    """One row a record, in the order given; what a record does not have is null."""
    return pl.DataFrame([row_of(record) for record in records], schema=COLUMNS)


def row_of(record: dict[str, Any]) -> dict[str, Any]:
    """The row of one record."""
    cell, provenance = record["cell"], record.get("provenance", {})
    values = {
        **cell,
        **record["counts"],
        **record["metrics"],
        **record.get("baseline", {}),
        **record["cost"],
        "key": record["key"],
        "method": method_label(cell["method"]),
        "task": task_label(cell["task"]),
        "status": record["status"],
        "path": provenance.get("path"),
        "n_cells_together": len(provenance.get("pack", [])) or None,
        "device": provenance.get("device"),
    }
    return {name: values.get(name) for name in COLUMNS}


def wrong_columns(record: dict[str, Any]) -> list[str]:
    """What in a record cannot stand in the table: its columns, or its method or provenance."""
    try:
        row = row_of(record)
    except (KeyError, TypeError, ValueError, AttributeError, LoralawError):
        return ["its method or provenance"]
    return [name for name, value in row.items() if value is not None and type(value) not in _KINDS[COLUMNS[name]]]


_KINDS: dict[pl.DataType, tuple[type, ...]] = {pl.String(): (str,), pl.Int64(): (int,), pl.Float64(): (float, int)}


def task_label(task: dict[str, Any]) -> str:
    """The name of a task as a cell stores it, or of its file."""
    return str(task.get("name") or PurePath(str(task.get("file", ""))).name)


def method_label(method: dict[str, Any]) -> str:
    """`lora`, or the name with those settings that differ from the defaults: `lora(lora_alpha=32)`."""
    fields = method_class(method["name"]).model_fields
    other = [
        f"{name}={_setting(value)}"
        for name, value in method.items()
        if name != "name" and name in fields and value != fields[name].default
    ]
    return str(method["name"]) + (f"({', '.join(other)})" if other else "")


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(value)
    return value if isinstance(value, str) else f"{value:g}"
