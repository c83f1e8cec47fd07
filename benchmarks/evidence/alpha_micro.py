"""α-LoRA against LoRA on the micro family: over ranks and data sizes, and how much T and α's learning rate matter."""

import numpy as np
import polars as pl
from numpy.typing import NDArray
from resampling import mean_of_seeds
from tables import markdown, setting_column, short

METRIC = "cross_entropy"
REFERENCE = "lora"
_SAME = ("base_model", "rank", "n_train_examples", "seed")
_PLACES = ("base_model", "rank", "n_train_examples")


def differences(cells: pl.DataFrame, metric: str = METRIC) -> pl.DataFrame:
    """Every cell less the LoRA cell of the same base model, rank, data and seed."""
    lora = cells.filter(method=REFERENCE).select(*_SAME, reference=metric)
    others = cells.filter(pl.col("method") != REFERENCE).join(lora, on=_SAME, how="inner")
    return others.with_columns(less=pl.col(metric) - pl.col("reference"))


def mean_text(values: list[NDArray[np.float64]]) -> str:
    """Mean over places of the means over seeds, ± half of its 95 % interval; the spread of seeds is pooled."""
    value, half = mean_of_seeds(values)
    return f"{value:+.3f} ± {half:.3f}"


def _by_place(part: pl.DataFrame) -> list[NDArray[np.float64]]:
    return [place["less"].to_numpy() for _, place in part.sort(_SAME).group_by(_PLACES, maintain_order=True)]


def place_table(cells: pl.DataFrame) -> str:
    """By base model, rank and data size; negative: α-LoRA is better."""
    found = differences(cells)
    methods = sorted(found["method"].unique())
    rows = []
    for place, part in found.sort(_SAME).group_by(_PLACES, maintain_order=True):
        reference = part.filter(method=methods[0])["reference"].mean()
        of_each = [mean_text(_by_place(part.filter(method=method))) for method in methods]
        rows.append([*(f"{p:,}" if isinstance(p, int) else str(p) for p in place), f"{reference:.3f}", *of_each])
    everywhere = [mean_text(_by_place(found.filter(method=method))) for method in methods]
    rows.append(["all", "", "", "", *everywhere])
    return markdown(["base model", "rank", "examples", "LoRA", *map(short, methods)], rows)


def place_answer(cells: pl.DataFrame) -> str:
    """The means of the table by rank and by data size, and how often α-LoRA is clearly better or worse."""
    found = differences(cells)
    lines = []
    for method in sorted(found["method"].unique()):
        part = found.filter(method=method)
        said = [
            f"{head} {mean_text(_by_place(part.filter(pl.col(column) == value)))}"
            for column, before, after in (("rank", "rank ", ""), ("n_train_examples", "", " examples"))
            for value in sorted(part[column].unique())
            for head in [f"{before}{value:,}{after}"]
        ]
        means = [mean_of_seeds([place]) for place in _by_place(part)]
        better, worse = (sum(sign * mean > half for mean, half in means) for sign in (-1, 1))
        lines.append(
            f"- {short(method)}, cross-entropy less LoRA's: {mean_text(_by_place(part))} over all; {', '.join(said)}. "
            f"Of {len(means)} settings it is clearly better in {better} and clearly worse in {worse}."
        )
    return "\n".join(lines)


def sensitivity_table(cells: pl.DataFrame) -> str:
    """By T and α's learning rate, the mean over ranks; and by rank with T = 10."""
    found = differences(cells).with_columns(
        T=setting_column("row_scale_every", 10).cast(pl.Int64), rate=setting_column("row_scale_learning_rate", 5e-3)
    )
    rates = sorted(found["rate"].unique())
    rows = [
        [f"T = {every}", *(mean_text(_by_place(found.filter(T=every, rate=rate))) for rate in rates)]
        for every in sorted(found["T"].unique())
    ]
    rows += [
        [f"rank {rank}, T = 10", *(mean_text(_by_place(found.filter(T=10, rank=rank, rate=rate))) for rate in rates)]
        for rank in sorted(found["rank"].unique())
    ]
    return markdown(["", *(f"α's rate {rate:g}" for rate in rates)], rows)
