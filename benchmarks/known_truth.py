"""Every estimator where its truth is known: bias, error, standard error, and whether it falls below its own truth.

python benchmarks/known_truth.py            # some minutes; writes benchmarks/results/known_truth.md
python benchmarks/known_truth.py --quick    # a smoke test of seconds; prints, writes nothing
"""

import argparse
from collections import defaultdict
from pathlib import Path

from channel_truth import Population, populations, sampled, whole_population
from gaussian_truth import gaussian_cells, measure_gaussian
from provenance import provenance, table
from repeated_estimate import RepeatedEstimate

RESULTS = Path(__file__).parent / "results" / "known_truth.md"
GAUSSIAN = {
    "gaussian_coordinate": "Truth: the mean mutual information of a coordinate, -log(1 - ρ²)/2. Target: the "
    "contrastive log-ratio bound on it, ρ²/(1-ρ²), which the estimator tends to.",
    "gaussian_noise": "Truth and target: the joint mutual information of z and u with the stated noise σ, "
    "-(d/2) log(1 - ρ²/(1+σ²)).",
}
CHANNEL = {
    "channel": "Truth: the exact I(X;Y) of the population. Target: min(I(T;X), I(T;Y)) of the population.",
    "channel_exact": "Truth and target: the exact I(X;Y) of the population.",
    "jsd": "Truth and target: its own value on the population.",
    "jsd_standardised": "Truth and target: its own value on the population.",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke test: small cells, few samples")
    quick = parser.parse_args().quick
    measured: dict[str, list[RepeatedEstimate]] = defaultdict(list)
    left_out = []
    for cell in gaussian_cells(quick):
        result = measure_gaussian(cell)
        for name, rows in result.rows.items():
            measured[name] += rows
        left_out += [
            f"- {name}, d {cell.d}, {cell.n_tokens:,} tokens: {why}\n" for name, why in result.left_out.items()
        ]
        print(f"Gaussian pairs, d {cell.d}, {cell.n_tokens:,} tokens: done", flush=True)
    channels = populations(quick)
    for population in channels:
        for n_tokens, n_samples in ((100, 50), (1_000, 20)) if quick else _SAMPLES:
            for name, repeated in sampled(population, n_tokens, n_samples).items():
                measured[name].append(repeated)
        print(f"channels, {population.name}: done", flush=True)
    page = _page(measured, left_out, channels)
    print(page)
    if not quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(page, encoding="utf-8")


_SAMPLES = ((100, 100), (1_000, 100), (10_000, 20), (100_000, 5))
"""Tokens of a sample, and how many samples."""


def _page(measured: dict[str, list[RepeatedEstimate]], left_out: list[str], channels: list[Population]) -> str:
    summary = table(
        ["estimator", "cells", "cells below truth", "largest shortfall", "samples 3 stderr below truth"],
        [_summary(name, rows) for name, rows in measured.items()],
    )
    whole = table(
        ["types × outcomes: p, q", "estimator", "truth", "definition", "estimate", "difference", "bound holds"],
        [row for population in channels for row in whole_population(population)],
    )
    return f"""# Estimators where the truth is known

{provenance("Seeds 0, 1, 2, … for the samples of a cell. Gaussian pairs in float32, channels in float64.")}
All numbers are nats. **Truth**: what the estimator must not fall below. **Target**: what it tends to with more tokens,
the truth or a bound on it; bias and RMSE are against the target. **Spread**: standard deviation over samples; **mean
stderr**: what the estimator says it is. **Below truth**: the mean over samples is more than 3 of its standard errors
below the truth, which many samples make visible however small it is; **samples 3 stderr below truth**: how often a
user with one sample would be told a number and a standard error that exclude the truth from below. Of cells without
any bias, one in a few hundred is called below by chance.

## Summary

{summary}
## Cells below their truth

{table(["estimator", "cell", *RepeatedEstimate.COLUMNS], _below(measured))}
## Left out

{"".join(left_out) or "None."}
## Channels, whole population

Token types with known p and q over d outcomes; every type is seen equally often, so that the tokens are the
population. Here the estimators are plain sums: `channel` must be at least the exact I(X;Y), `channel_exact` equal to
it, and the divergences between 0 and ln 2.

{whole}
## Channels, tokens drawn from the population

Few tokens make an entropy of mean frequencies too low: each token type that was not seen, and each frequency that is
estimated, takes something away. **Expected bias**: of the plain sums, to first order in 1/tokens. Over the tokens of
the sample itself the bound holds always: in all samples below, `channel` less `channel_exact` of the same tokens is at
least {_least_slack(measured):.1e}.

{_sections(measured, CHANNEL, ["types × outcomes: p, q", "tokens", "expected bias"])}
## Gaussian pairs

d coordinates; only equal coordinates depend on each other, with correlation ρ. The samples of different ρ share their
random numbers.

{_sections(measured, GAUSSIAN, ["d", "ρ", "tokens"])}"""


def _sections(measured: dict[str, list[RepeatedEstimate]], notes: dict[str, str], first: list[str]) -> str:
    return "\n".join(
        f"### {name}\n\n{note}\n\n{table([*first, *RepeatedEstimate.COLUMNS], [r.row() for r in measured[name]])}"
        for name, note in notes.items()
    )


def _summary(name: str, rows: list[RepeatedEstimate]) -> list[str]:
    below = [row for row in rows if row.is_below]
    largest = max((row.truth_nats - row.mean for row in below), default=0.0)
    n_samples = sum(len(row.estimates) for row in rows)
    n_below = sum(row.share_below * len(row.estimates) for row in rows)
    return [name, str(len(rows)), str(len(below)), f"{largest:.2g}", f"{n_below / n_samples:.1%}"]


def _below(measured: dict[str, list[RepeatedEstimate]]) -> list[list[str]]:
    cells = []
    for name, rows in measured.items():
        for row in rows:
            if row.is_below:
                n_of_cell = len(row.cell)
                cells.append([name, ", ".join(row.cell), *row.row()[n_of_cell:]])
    return cells


def _least_slack(measured: dict[str, list[RepeatedEstimate]]) -> float:
    """Smallest difference between `channel` and `channel_exact` of the same tokens, over all samples."""
    return min(
        bound.value_nats - exact.value_nats
        for bounds, exacts in zip(measured["channel"], measured["channel_exact"], strict=True)
        for bound, exact in zip(bounds.estimates, exacts.estimates, strict=True)
    )


if __name__ == "__main__":
    main()
