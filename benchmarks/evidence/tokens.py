"""Question 3: does a metric tell which adapter is better on held-out data, and how few tokens does it take?"""

import numpy as np
import polars as pl
from resampling import SETTINGS, Interval, kendall, kendalls, once, same
from tables import CONVENTIONS, INTERNAL, WITHOUT_LABELS, interval, label, markdown

METRICS = {
    "train_loss": "loss of the last steps",
    "cross_entropy": "cross-entropy on these rows",
    **{name: label(name) for name in (*INTERNAL, *WITHOUT_LABELS)},
}
ROWS = {"validation": "validation", "train": "learned from"}


def token_table(cells: pl.DataFrame, probes: pl.DataFrame) -> str:
    """Pairs of adapters of one base model, one convention and one seed; positive: lower means better on test.

    A column for every number of rows, and one for the difference from the loss of the last steps with most rows. Of
    adapters that learned from fewer rows than that, nothing is said about those rows.
    """
    tests = cells.select("key", "train_loss", *SETTINGS, "seed", test="cross_entropy")
    data = probes.join(tests, on="key", how="inner")
    counts = sorted(data.filter(rows_of="train")["n_rows"].unique())
    rows = []
    for method, convention in CONVENTIONS.items():
        for rows_of, said in ROWS.items():
            part = data.filter(pl.col("n_rows").is_in(counts), method=method, rows_of=rows_of)
            whole = part.filter(pl.len().over("key") == len(counts))
            found = [_taus(whole.filter(n_rows=n_rows)) for n_rows in counts]
            for i, name in enumerate(METRICS.values()):
                taus = [interval(tau.value, tau.low, tau.high) for tau in (of_all[i] for of_all, _ in found)]
                less = found[-1][1][i][0]
                rows.append([convention, said, name, *taus, interval(less.value, less.low, less.high)])
    tokens = [data.filter(rows_of="validation", n_rows=n)["n_tokens"].mean() for n in counts]
    heads = [
        "scale",
        "rows",
        "metric",
        *(f"{n:,.0f} tokens" for n in tokens),
        "less that of the loss of the last steps",
    ]
    return markdown(heads, rows)


def default_answer(cells: pl.DataFrame, probes: pl.DataFrame) -> str:
    """Question 6: every internal metric in the direction that suits it best, and how much less than MIUB it orders."""
    data = probes.filter(rows_of="validation", n_rows=max(probes["n_rows"])).join(
        once(cells).select("key", *SETTINGS, "seed", test="cross_entropy"), on="key", how="inner"
    )
    means = data.group_by(SETTINGS).agg(pl.col(*INTERNAL, "test").mean()).sort(SETTINGS)
    target, inside = means["test"].to_numpy(), same(means["base_model"])
    values = [means[metric].to_numpy() for metric in INTERNAL]
    signs = [np.sign(kendall(value, target, inside)) for value in values]
    taus, differences = kendalls([s * v for s, v in zip(signs, values, strict=True)], target, inside)
    reference = INTERNAL.index("miub_nats")
    said = [
        f"{label(metric)} ({'lower' if sign > 0 else 'higher'} is better) {_text(tau)}, "
        f"less MIUB's {_text(less[reference])}"
        for metric, sign, tau, less in zip(INTERNAL, signs, taus, differences, strict=True)
        if metric != "miub_nats"
    ]
    return (
        f"τ with held-out cross-entropy, within one base model and over both scales: MIUB {_text(taus[reference])}; "
        + "; ".join(said)
        + "."
    )


def _text(tau: Interval) -> str:
    return interval(tau.value, tau.low, tau.high)


def _taus(part: pl.DataFrame) -> tuple[list[Interval], list[list[Interval]]]:
    """The bootstrap draws configurations; the seeds of each stay together."""
    part = part.sort(*SETTINGS, "seed")
    values = [part[metric].to_numpy() for metric in METRICS]
    inside = same(part["base_model"], part["seed"])
    return kendalls(
        values, part["test"].to_numpy(), inside, part.select(pl.concat_str(SETTINGS, separator=" ")).to_series()
    )
