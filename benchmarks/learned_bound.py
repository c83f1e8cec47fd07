"""The closed-form coordinate bound beside a learned contrastive log-ratio bound, on Gaussian pairs of known truth.

    python benchmarks/learned_bound.py            # some minutes; writes benchmarks/results/learned_bound.md
    python benchmarks/learned_bound.py --quick    # a smoke test of seconds; prints, writes nothing

z and u have d coordinates; only equal coordinates depend on each other, with correlation ρ. The truth of both is the
contrastive log-ratio bound with the true conditional, d ρ²/(1-ρ²): `vclub` learns that conditional, d times
`gaussian_coordinate` is the closed form. They are timed in turn in one process.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from provenance import provenance, table
from torch import Tensor

from loralaw.miub import estimate
from loralaw.miub.learned_bound import LearnedBound

RESULTS = Path(__file__).parent / "results" / "learned_bound.md"
N_TOKENS = (200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)
N_TOKENS_LEARNED = (2_000, 10_000)
PASSES = (2, 8, LearnedBound.max_passes)
"""Most passes at each of the learning rates: the learned bound may stop long before its own early stopping."""


@dataclass
class Measured:
    """Repeated measurements of one estimator at one number of tokens."""

    estimator: str
    n_tokens: int
    passes: int = 0
    relative_errors: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def error(self) -> float:
        """Root mean square error over repetitions, relative to the truth."""
        return math.sqrt(statistics.fmean(e * e for e in self.relative_errors))

    @property
    def median_seconds(self) -> float:
        return statistics.median(self.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke test: few tokens, two repetitions")
    quick = parser.parse_args().quick
    repetitions = 2 if quick else 3
    torch.set_num_threads(1)  # both on one: matrices this small gain nothing from a second
    cells = [(16, 0.6)] if quick else [(d, rho) for d in (16, 64) for rho in (0.3, 0.6, 0.9)]
    measured = {cell: _measure(*cell, repetitions, 2_000 if quick else max(N_TOKENS)) for cell in cells}
    page = _page(measured, repetitions)
    print(page)
    if not quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(page, encoding="utf-8")


def _measure(d: int, rho: float, repetitions: int, most_tokens: int) -> list[Measured]:
    """Both estimators on the same pairs, in turn; the first tokens of the longest sample are the shorter samples."""
    closed = [Measured("closed", n) for n in N_TOKENS if n <= most_tokens]
    learned = [Measured("learned", n, passes) for n in N_TOKENS_LEARNED if n <= most_tokens for passes in PASSES]
    truth = d * rho**2 / (1 - rho**2)
    for repetition in range(repetitions + 1):
        z, u = _gaussian_pairs(most_tokens, d, rho, seed=repetition)
        for cell in closed + learned if repetition else closed:
            estimator = _closed_form if cell.estimator == "closed" else _learned(cell.passes)
            for _ in range(5 if cell.estimator == "closed" else 1):  # it takes a millisecond: one time is mostly noise
                began = time.perf_counter()
                value = estimator(z[: cell.n_tokens], u[: cell.n_tokens])
                seconds = time.perf_counter() - began
                if repetition:  # the first round only warms up
                    cell.seconds.append(seconds)
            if repetition:
                cell.relative_errors.append(value / truth - 1)
        print(f"d {d}, ρ {rho}: round {repetition} of {repetitions}", flush=True)
    return closed + learned


def _gaussian_pairs(n_tokens: int, d: int, rho: float, seed: int) -> tuple[Tensor, Tensor]:
    z, noise = torch.randn(2, n_tokens, d, generator=torch.Generator().manual_seed(seed))
    return z, rho * z + math.sqrt(1 - rho**2) * noise


def _closed_form(base: Tensor, adapter: Tensor) -> float:
    return base.shape[1] * estimate(base, adapter, "gaussian_coordinate").value_nats


def _learned(passes: int) -> Callable[[Tensor, Tensor], float]:
    class Stopped(LearnedBound):
        max_passes = passes

    def value(base: Tensor, adapter: Tensor) -> float:
        estimator = Stopped()
        estimator.update(base, adapter)
        return estimator.result().value_nats

    return value


def _page(measured: dict[tuple[int, float], list[Measured]], repetitions: int) -> str:
    same_tokens, same_error, ratios = [], [], []
    for (d, rho), cells in measured.items():
        closed = {cell.n_tokens: cell for cell in cells if cell.estimator == "closed"}
        learned = [cell for cell in cells if cell.estimator == "learned"]
        for cell in learned:
            if cell.passes == LearnedBound.max_passes:
                same_tokens.append(_same_tokens_row(d, rho, cell, closed[cell.n_tokens]))
        for n in (1_000, 2_000, 5_000):
            if n in closed:
                ratio, row = _same_error_row(d, rho, closed[n], learned)
                ratios.append(ratio)
                same_error.append(row)
    return f"""# A learned bound beside the closed form

{provenance(f"Seeds 1 to {repetitions} of the pairs, seed 0 of the learning; float32.")}
Gaussian pairs of d coordinates with correlation ρ; the truth of both is the contrastive log-ratio bound with the true
conditional, d ρ²/(1-ρ²) nats. **closed form**: d times `gaussian_coordinate`. **learned**: `vclub` (network of one
hidden layer, Adam, early stopping, two-fold cross-fitting). Error: root mean square over {repetitions} repetitions,
divided by the truth. Seconds: median, measured in turn in one process.

The comparison is on the closed form's own ground: the pairs are Gaussian and only equal coordinates depend on each
other, which `gaussian_coordinate` takes for granted and `vclub` has to find out. Where the dependence is of another
kind (u = |z|), the closed form sees nothing and the learned one does.

## At the same error

The learned one may use any of {", ".join(f"{n:,}" for n in N_TOKENS_LEARNED)} tokens and stop after any of
{
        ", ".join(map(str, PASSES))
    } passes at each of its three learning rates: shown is the quickest that is at least as good as
the closed form, picked after the fact, which favours it. Where none is, ">" and the longest time that was tried.
Smallest ratio: {min(ratios):,.0f}.

{
        table(
            [
                "d",
                "ρ",
                "tokens of the closed form",
                "its error",
                "its ms",
                "learned, as good: tokens, passes",
                "ms",
                "ratio",
            ],
            same_error,
        )
    }
## At the same number of tokens

{table(["d", "ρ", "tokens", "closed form error", "ms", "learned error", "ms", "ratio of ms"], same_tokens)}"""


def _same_tokens_row(d: int, rho: float, learned: Measured, closed: Measured) -> list[str]:
    ratio = learned.median_seconds / closed.median_seconds
    return [
        str(d),
        str(rho),
        f"{learned.n_tokens:,}",
        f"{closed.error:.1%}",
        f"{1e3 * closed.median_seconds:.2f}",
        f"{learned.error:.1%}",
        f"{1e3 * learned.median_seconds:,.0f}",
        f"{ratio:,.0f}",
    ]


def _same_error_row(d: int, rho: float, closed: Measured, learned: list[Measured]) -> tuple[float, list[str]]:
    good = [cell for cell in learned if cell.error <= closed.error]
    reached = min(good, key=lambda cell: cell.median_seconds) if good else None
    seconds = (reached or max(learned, key=lambda cell: cell.median_seconds)).median_seconds
    ratio = seconds / closed.median_seconds
    sign = "" if reached else "> "
    found = f"{reached.n_tokens:,}, {reached.passes}" if reached else f"none (best error {_best(learned):.1%})"
    numbers = [f"{closed.error:.1%}", f"{1e3 * closed.median_seconds:.2f}", found]
    return ratio, [
        str(d),
        str(rho),
        f"{closed.n_tokens:,}",
        *numbers,
        f"{sign}{1e3 * seconds:,.0f}",
        f"{sign}{ratio:,.0f}",
    ]


def _best(learned: list[Measured]) -> float:
    return min(cell.error for cell in learned)


if __name__ == "__main__":
    main()
