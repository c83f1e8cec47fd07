"""Question 4: does a metric agree with downstream accuracy better than cross-entropy and the norm control do?"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl
from resampling import Interval, configurations, kendalls, once, same
from tables import CONVENTIONS, INTERNAL, interval, label, markdown

RIVALS = ("cross_entropy", "norm_ratio")
"""Perplexity orders single cells as cross-entropy does."""
METRICS = ("cross_entropy", *INTERNAL)
VIEWS = {**{(method,): name for method, name in CONVENTIONS.items()}, tuple(CONVENTIONS): "both"}


@dataclass(frozen=True)
class Agreement:
    """Of a metric with an accuracy; positive: lower goes with higher accuracy, as the source claims for MIUB.

    Args:
        less: The same less that of each rival, on the same resamples.
    """

    view: str
    metric: str
    tau: Interval
    less: dict[str, Interval]


def agreements(cells: pl.DataFrame, accuracy: str) -> Iterator[Agreement]:
    """Pairs of one base model and one task."""
    for methods, view in VIEWS.items():
        part = cells.filter(pl.col("method").is_in(methods))
        means = configurations(part if len(methods) == 1 else once(part), [*METRICS, accuracy])
        values = [-means[metric].to_numpy() for metric in METRICS]
        inside = same(means["base_model"], means["task"])
        taus, differences = kendalls(values, means[accuracy].to_numpy(), inside)
        for i, metric in enumerate(METRICS):
            rivals = {rival: differences[i][METRICS.index(rival)] for rival in RIVALS if rival != metric}
            yield Agreement(view, metric, taus[i], rivals)


def agreement_table(cells: pl.DataFrame, accuracy: str) -> str:
    rows = [
        [one.view, label(one.metric), interval(one.tau.value, one.tau.low, one.tau.high)]
        + [interval(d.value, d.low, d.high) if (d := one.less.get(rival)) else "–" for rival in RIVALS]
        for one in agreements(cells, accuracy)
    ]
    heads = ["scale", "metric", "τ with accuracy", *(f"less that of {label(rival)}" for rival in RIVALS)]
    return markdown(heads, rows)


def choice_sentence(cells: pl.DataFrame) -> str:
    """How far the choice accuracy of the micro models is from guessing."""
    means = configurations(cells, ["choice_accuracy"])["choice_accuracy"]
    base, error = (cells[name].mean() for name in ("base_choice_accuracy", "choice_accuracy_stderr"))
    return (
        f"Choice accuracy of the {len(means)} configurations: {means.min():.2f} to {means.max():.2f}; of the base "
        f"models without training {base:.2f}; standard error of a cell {error:.2f}; guessing among four gives 0.25."
    )
