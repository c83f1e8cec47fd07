"""Question 2, earlier in training: what says after a quarter of the steps which adapter will be better in the end?"""

from collections.abc import Iterator

import polars as pl
from resampling import SETTINGS, Interval, kendalls, same
from tables import CONVENTIONS, INTERNAL, interval, label, markdown

METRICS = {
    "cross_entropy": "cross-entropy",
    **{name: label(name) for name in INTERNAL},
    "train_loss": "loss of the last steps",
}


def foretold(cells: pl.DataFrame, early: pl.DataFrame) -> Iterator[tuple[str, str, Interval, Interval]]:
    """Convention, metric, its tau with cross-entropy at the end, and that less the tau of early cross-entropy.

    Pairs of one base model and one convention, seeds averaged; positive: lower early means better at the end.
    """
    ends = cells.select(*SETTINGS, "seed", end="cross_entropy")
    joined = early.join(ends, on=[*SETTINGS, "seed"])
    means = joined.group_by(SETTINGS).agg(pl.col(*METRICS, "end").mean()).sort(SETTINGS)
    for method, convention in CONVENTIONS.items():
        part = means.filter(method=method)
        values = [part[metric].to_numpy() for metric in METRICS]
        taus, differences = kendalls(values, part["end"].to_numpy(), same(part["base_model"]))
        for i, name in enumerate(METRICS.values()):
            yield convention, name, taus[i], differences[i][0]


def early_table(cells: pl.DataFrame, early: pl.DataFrame) -> str:
    rows = [
        [convention, name, interval(tau.value, tau.low, tau.high), interval(less.value, less.low, less.high)]
        for convention, name, tau, less in foretold(cells, early)
    ]
    return markdown(["scale", "metric, early", "τ with cross-entropy at the end", "less that of cross-entropy"], rows)
