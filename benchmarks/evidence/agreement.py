"""Question 4: does a metric agree with downstream accuracy better than cross-entropy and the norm control do?"""

import polars as pl
from resampling import configurations, kendalls, same
from tables import CONVENTIONS, INTERNAL, interval, label, markdown

RIVALS = ("cross_entropy", "norm_ratio")
"""Perplexity orders single cells as cross-entropy does."""
DOWNSTREAM = "choice_accuracy"


def agreement_table(cells: pl.DataFrame, downstream: str = DOWNSTREAM) -> str:
    """Positive: a lower metric goes with a higher accuracy, as the source claims for MIUB."""
    rows = []
    for method, name in CONVENTIONS.items():
        for which, within in (("all", ()), ("of one base model", ("base_model",))):
            means = configurations(cells.filter(method=method), [*INTERNAL, "cross_entropy", downstream])
            metrics = ("cross_entropy", *INTERNAL)
            values = [-means[metric].to_numpy() for metric in metrics]
            inside = same(*(means[column] for column in within)) if within else None
            taus, differences = kendalls(values, means[downstream].to_numpy(), inside)
            for i, metric in enumerate(metrics):
                less = [differences[i][metrics.index(rival)] for rival in RIVALS]
                rows.append(
                    [name, which, label(metric), interval(taus[i].value, taus[i].low, taus[i].high)]
                    + [
                        "–" if metric == rival else interval(d.value, d.low, d.high)
                        for rival, d in zip(RIVALS, less, strict=True)
                    ]
                )
    heads = ["scale", "pairs", "metric", "τ with accuracy", *(f"less that of {label(rival)}" for rival in RIVALS)]
    return markdown(heads, rows)
