"""The record tables of the evidence, and how numbers are written."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from loralaw.errors import InputError
from loralaw.laws import metric_named
from loralaw.store import read_study

RESULTS = Path(__file__).parents[1] / "results" / "evidence"

ESTIMATORS = ("miub_nats", "jsd_nats", "jsd_standardised_nats", "gaussian_coordinate_nats")
CONTROLS = ("norm_ratio", "cosine", "effective_rank")
NO_STUDIES = ("_tokens", "_slow")
INTERNAL = (*ESTIMATORS, *CONTROLS)
WITHOUT_LABELS = {
    "output_entropy": "entropy of the predictions",
    "output_divergence": "divergence from the base's predictions",
}
"""Of the model's output, to compare: they need no labels either."""
OUTSIDE = ("cross_entropy", "perplexity")
AXES = {"rank": "rank", "n_train_examples": "training examples", "n_params_total": "model size"}
CONVENTIONS = {"lora": "lora_alpha / r", "rslora": "lora_alpha / √r"}


def cells(name: str) -> pl.DataFrame:
    """The cells of a study whose file stands in the results.

    Raises:
        InputError: some did not finish: the document has to say which numbers are without them.
    """
    found = read_study(RESULTS / f"{name}.parquet").table()
    if n := found.filter(pl.col("status") != "finished").height:
        raise InputError(f"{n} cells of {name} did not finish: numbers would be without them, and nobody told")
    return found


def table(name: str) -> pl.DataFrame:
    """A table that is no study."""
    return pl.read_parquet(RESULTS / f"{name}.parquet")


def cell_counts() -> str:
    """Of every study: how many cells, how many of them failed, and what they cost."""
    rows = []
    for path in sorted(RESULTS.glob("*.parquet")):
        if path.stem.endswith(NO_STUDIES):
            continue
        study = read_study(path)
        found = study.table()
        n_failed = found.filter(pl.col("status") != "finished").height
        hours = found.select(pl.sum("train_seconds", "evaluate_seconds")).row(0)
        device = ", ".join(found["device"].drop_nulls().unique().sort())
        ended = max(str(record["provenance"]["finished_at"])[:10] for record in study.records())
        name = f"`evidence_{path.stem}.yaml`"
        rows.append([name, ended, str(found.height), str(n_failed), f"{sum(hours) / 3600:.1f}", device])
    return markdown(["study", "run on", "cells", "not finished", "processor hours", "device"], rows)


def label(metric: str) -> str:
    return WITHOUT_LABELS.get(metric) or metric_named(metric).label


def setting(method: str, name: str, default: str) -> str:
    """Of a method as the tables write it: `lora(learning_rate=0.002)`."""
    settings = dict(part.split("=") for part in method.rstrip(")").partition("(")[2].split(", ") if part)
    return settings.get(name, default)


def short(method: str) -> str:
    """The method and what tells it apart, without its learning rate."""
    name = method.partition("(")[0]
    if name == "alpha-lora":
        protocol = setting(method, "row_scale_protocol", "")
        return f"α-LoRA (T = {setting(method, 'row_scale_every', '10')}{protocol and f', {protocol}'})"
    return {"lora": "LoRA", "rslora": "rsLoRA", "dora": "DoRA", "full": "full"}[name]


def setting_column(name: str, default: float) -> pl.Expr:
    """The same of a whole table, as numbers."""
    return pl.col("method").str.extract(rf"{name}=([0-9.e-]+)").cast(pl.Float64).fill_null(default)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """`0.31 [0.12, 0.48]`."""
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]".replace(
        "-0." + "0" * digits, "0." + "0" * digits
    )


def percent(value: float, low: float, high: float) -> str:
    """Of a ratio less 1: `-32 % [-35, -29]`."""
    return f"{100 * value:+.0f} % [{100 * low:+.0f}, {100 * high:+.0f}]"


def probability(p: float) -> str:
    return f"{p:.3f}" if p >= 0.0015 else "0.001"
