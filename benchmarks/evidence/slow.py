"""A dozen adapters by the estimators that are too slow for all: is the bound above what it bounds?"""

import polars as pl
from tables import CONVENTIONS, label, markdown

_COLUMNS = ("miub_nats", "channel_exact_nats", "gaussian_noise_nats", "vclub_nats", "norm_ratio")


def slow_table(cells: pl.DataFrame, layers: pl.DataFrame) -> str:
    """Means over the layers of the middle block."""
    broken = (pl.col("miub_nats") < pl.col("channel_exact_nats")).sum()
    means = layers.group_by("key").agg(pl.col(_COLUMNS).mean(), n_broken=broken, n_layers=pl.len())
    joined = cells.select("key", "base_model", "method", "rank", "cross_entropy").join(means, on="key", how="inner")
    rows = [
        [
            row["base_model"],
            CONVENTIONS[row["method"]],
            str(row["rank"]),
            f"{row['cross_entropy']:.3f}",
            *(f"{row[column]:.3g}" for column in _COLUMNS),
            f"{row['n_broken']} of {row['n_layers']}",
        ]
        for row in joined.sort("base_model", "method", "rank").iter_rows(named=True)
    ]
    names = ["MIUB", "exact channel information", "gaussian_noise", "vclub", label("norm_ratio")]
    names.append("layers with less than the exact")
    return markdown(["base model", "scale", "rank", "cross-entropy", *names], rows)
