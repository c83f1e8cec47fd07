"""Question 2, earlier in training: what says after a quarter of the steps which adapter will be better in the end?"""

import polars as pl
from resampling import SETTINGS, kendalls, same
from tables import CONVENTIONS, INTERNAL, interval, label, markdown

METRICS = ("cross_entropy", *INTERNAL, "train_loss")


def early_table(cells: pl.DataFrame, early: pl.DataFrame) -> str:
    """Pairs of one base model and one convention, seeds averaged; positive: lower early means better at the end."""
    rows = []
    ends = cells.select(*SETTINGS, "seed", end="cross_entropy")
    means = (
        early.join(ends, on=[*SETTINGS, "seed"]).group_by(SETTINGS).agg(pl.col(*METRICS, "end").mean()).sort(SETTINGS)
    )
    for method, name in CONVENTIONS.items():
        part = means.filter(method=method)
        taus, differences = kendalls(
            [part[metric].to_numpy() for metric in METRICS], part["end"].to_numpy(), same(part["base_model"])
        )
        for i, metric in enumerate(METRICS):
            less = differences[i][0]
            rows.append(
                [
                    name,
                    "loss of the last steps" if metric == "train_loss" else label(metric),
                    interval(taus[i].value, taus[i].low, taus[i].high),
                    "–" if i == 0 else interval(less.value, less.low, less.high),
                ]
            )
    return markdown(["scale", "metric, early", "τ with cross-entropy at the end", "less that of cross-entropy"], rows)
