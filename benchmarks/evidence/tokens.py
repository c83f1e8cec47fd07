"""Question 3: does a metric tell which adapter is better on held-out data, and how few tokens does it take?"""

import numpy as np
import polars as pl
from resampling import SETTINGS, kendalls, same
from tables import CONVENTIONS, INTERNAL, WITHOUT_LABELS, interval, label, markdown


def joined(cells: pl.DataFrame, probes: pl.DataFrame) -> pl.DataFrame:
    """Probes beside what the same adapter scores on the test rows."""
    names = {"cross_entropy": "test_cross_entropy", "train_loss": "last_train_loss"}
    return probes.join(cells.select("key", *SETTINGS, "seed", *names).rename(names), on="key", how="inner")


def token_table(cells: pl.DataFrame, probes: pl.DataFrame) -> str:
    """Pairs of adapters of one base model and one convention, seeds averaged; positive: lower means better on test."""
    rows = []
    data = joined(cells, probes)
    for rows_of in ("validation", "train"):
        for n_rows in sorted(data["n_rows"].unique()):
            part = data.filter(rows_of=rows_of, n_rows=n_rows)
            columns = ["cross_entropy", *INTERNAL, *WITHOUT_LABELS, "last_train_loss"]
            means = (
                part.group_by(SETTINGS).agg(pl.col(*columns, "test_cross_entropy", "n_tokens").mean()).sort(SETTINGS)
            )
            for method, name in CONVENTIONS.items():
                of_method = means.filter(method=method)
                if of_method.height < 4:
                    continue
                taus, _ = kendalls(
                    [of_method[column].to_numpy() for column in columns],
                    of_method["test_cross_entropy"].to_numpy(),
                    same(of_method["base_model"]),
                )
                n_tokens = f"{np.mean(of_method['n_tokens'].to_numpy()):,.0f}"
                rows.append([rows_of, n_tokens, name, *(interval(t.value, t.low, t.high) for t in taus)])
    heads = [
        "rows",
        "tokens",
        "scale",
        "cross-entropy on them",
        *map(label, (*INTERNAL, *WITHOUT_LABELS)),
        "loss of the last steps",
    ]
    return markdown(heads, rows)
