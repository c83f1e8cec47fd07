"""Convention (c): a learning rate for each rank, chosen on validation rows of a seed that is used nowhere else."""

import polars as pl
from tables import CONVENTIONS, label, markdown, setting_column

_KEYS = ("base_model", "method", "rank")
_DEFAULT = 2e-3


def with_rate(cells: pl.DataFrame) -> pl.DataFrame:
    """The method without its learning rate, which gets a column of its own."""
    rate = setting_column("learning_rate", _DEFAULT)
    return cells.with_columns(learning_rate=rate, method=pl.col("method").str.extract(r"^([a-z-]+)"))


def choices(tuning: pl.DataFrame) -> pl.DataFrame:
    """Of every base model, convention and rank, the rate with the lowest cross-entropy on validation rows."""
    return (
        with_rate(tuning)
        .sort("cross_entropy", "learning_rate")
        .unique(_KEYS, keep="first")
        .select(*_KEYS, "learning_rate")
    )


def tuned(tuning: pl.DataFrame, *studies: pl.DataFrame) -> pl.DataFrame:
    """The cells with the rates that were chosen, at the data size of the tuning."""
    size = tuning["n_train_examples"][0]
    cells = pl.concat([with_rate(study) for study in studies]).filter(n_train_examples=size)
    return cells.join(choices(tuning), on=[*_KEYS, "learning_rate"], how="semi")


def choice_table(tuning: pl.DataFrame) -> str:
    rows = []
    chosen = choices(tuning).sort(_KEYS)
    ranks = sorted(chosen["rank"].unique())
    for (base, method), part in chosen.group_by("base_model", "method", maintain_order=True):
        by_rank = dict(part.select("rank", "learning_rate").iter_rows())
        rows.append([str(base), CONVENTIONS[str(method)], *(f"{by_rank[rank]:g}" for rank in ranks)])
    return markdown(["base model", "scale", *(f"rank {rank}" for rank in ranks)], rows)


def rank_table(cells: pl.DataFrame) -> str:
    """Means over base models and seeds at every rank, relative to the smallest; geometric."""
    columns = ("cross_entropy", "miub_nats", "norm_ratio")
    means = (
        cells.group_by("method", "rank")
        .agg(pl.col(columns).log().mean().exp(), rates=pl.col("learning_rate").unique().sort())
        .sort("method", "rank")
    )
    relative = means.with_columns((pl.col(columns) / pl.col(columns).first()).over("method"))
    rows = [
        [CONVENTIONS[row["method"]], str(row["rank"]), ", ".join(f"{rate:g}" for rate in row["rates"])]
        + [f"{row[column]:.2f}" for column in columns]
        for row in relative.iter_rows(named=True)
    ]
    return markdown(["scale", "rank", "learning rate", *(f"{label(c)} over that of rank 1" for c in columns)], rows)
