"""How often decisions about laws are right, in simulated studies: is there a law, which form, which metric obeys it.

    python benchmarks/law_decisions.py [--studies 300]

All through `loralaw.laws.fit` and `judge`. Studies of 12 and 24 cells over eight octaves with two seeds unless said;
noise in percent of the law's range. Writes `results/law_decisions.md`.
"""

import argparse
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from provenance import provenance, table

from loralaw.laws import fit, judge

RESULTS = Path(__file__).parent / "results" / "law_decisions.md"
Floats = NDArray[np.float64]


def falls(x: Floats) -> Floats:
    return np.asarray(0.5 + x**-0.5)


def no_floor(x: Floats) -> Floats:
    return np.asarray(x**-0.5)


def saturates(x: Floats) -> Floats:
    return np.asarray(0.5 + np.minimum(x, 16.0) ** -0.5)


def rises_at_the_end(x: Floats) -> Floats:
    return np.asarray(0.5 + x**-0.5 + 0.15 * np.maximum(np.log2(x) - 5, 0))


def bends_in_the_middle(x: Floats) -> Floats:
    return np.asarray(0.5 + np.where(x < 16, x**-0.5, 16**-0.5 * (x / 16) ** -0.25))


def constant(x: Floats) -> Floats:
    return np.zeros_like(x)


LAWS: dict[str, Callable[[Floats], Floats]] = {
    "power law with floor": falls,
    "power law without floor": no_floor,
    "flat beyond 16": saturates,
    "rises at the end": rises_at_the_end,
    "slope halves in the middle": bends_in_the_middle,
    "pure noise": constant,
}


@dataclass(frozen=True)
class Case:
    """Studies of one truth."""

    law: str
    n_cells: int
    n_seeds: int
    noise: float
    seed_effect: bool = False
    metric: str = "loss"
    """Of `loss` no direction is known beforehand; `cross_entropy` is to fall."""

    def draw(self, rng: np.random.Generator) -> tuple[Floats, NDArray[np.int64], Floats]:
        sizes = np.repeat(2.0 ** np.linspace(0, 8, self.n_cells // self.n_seeds), self.n_seeds)
        seeds = np.tile(np.arange(self.n_seeds), self.n_cells // self.n_seeds)
        mean = LAWS[self.law](sizes)
        sd = self.noise * (np.ptp(mean) or 1.0)
        shift = sd * rng.standard_normal(self.n_seeds) if self.seed_effect else np.zeros(self.n_seeds)
        return sizes, seeds, mean + shift[seeds] + sd * rng.standard_normal(len(sizes))


def outcomes(work: tuple[Case, int]) -> Counter[str]:
    """What `fit` says of each study: its status, and where there is a law, its form."""
    case, n_studies = work
    found: Counter[str] = Counter()
    for number in range(n_studies):
        sizes, seeds, loss = case.draw(np.random.default_rng(number))
        law = fit(pl.DataFrame({"rank": sizes, "seed": seeds, case.metric: loss}), metric=case.metric, axis="rank")
        found[law.forms.name if law.forms is not None else str(law.status)] += 1
    return found


WAYS = ("better", "worse", "seems better", "seems worse")
PAIRS = {  # and whether the first metric obeys the law better
    "same law": False,
    "same law, correlated 0.7": False,
    "other exponent": False,
    "seed effects": False,
    "noise grows along the axis": False,
    "twice the noise, correlated 0.7": True,
    "the second one bends": True,
}


def verdicts(work: tuple[str, int, int]) -> Counter[str]:
    """How often `judge` says that the first metric follows the law better or worse, and how often that it seems to."""
    name, n_cells, n_studies = work
    said: Counter[str] = Counter()
    for number in range(n_studies):
        rng = np.random.default_rng([list(PAIRS).index(name), n_cells, number])
        sizes, seeds = np.repeat(2.0 ** np.linspace(0, 8, n_cells // 2), 2), np.tile([0, 1], n_cells // 2)
        first, second = rng.standard_normal((2, n_cells))
        if "correlated" in name:
            second = 0.7 * first + 0.51**0.5 * second
        noise = 0.03 * np.ones(n_cells)
        if name == "noise grows along the axis":
            noise = noise * 4 ** (np.log2(sizes) / 8 - 0.5)
        shift = 0.03 * rng.standard_normal((2, 2)) if name == "seed effects" else np.zeros((2, 2))
        ends = {"other exponent": lambda x: 0.5 + x**-1.0, "the second one bends": rises_at_the_end}
        one, other = falls(sizes), ends.get(name, falls)(sizes)
        one = one + noise * np.ptp(one) * first + shift[0][seeds]
        other = other + noise * np.ptp(other) * (2 if name.startswith("twice") else 1) * second + shift[1][seeds]
        rows = pl.DataFrame({"rank": sizes, "seed": seeds, "miub_nats": one, "cross_entropy": other})
        (seen,) = judge(
            rows, axes=["rank"], metrics=["miub_nats", "cross_entropy"], rivals=["cross_entropy"]
        ).comparisons
        if seen.p_misfit <= 0.05:
            way = "better" if seen.misfit_ratio.value < 1 else "worse"
            said[f"seems {way}" if seen.misfit_ratio.low <= 1 <= seen.misfit_ratio.high else way] += 1
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=300)
    n_studies = parser.parse_args().studies
    existence = [
        Case(law, n, s, noise, effect, metric)
        for metric in ("cross_entropy", "loss")
        for law, n, s, noise, effect in (
            *(("pure noise", n, s, 1.0, effect) for n in (12, 24) for s in (2, 3) for effect in (False, True)),
            *(("power law with floor", 12, s, 0.3, False) for s in (2, 3)),
        )
    ]
    shapes = [Case(law, n, 2, noise) for law in list(LAWS)[:-1] for n in (12, 24) for noise in (0.01, 0.03, 0.1)]
    pairs = [(name, n, n_studies) for name in PAIRS for n in (12, 24)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(outcomes, [(case, n_studies) for case in (*existence, *shapes)]))
        judged = list(pool.map(verdicts, pairs))
    text = page(existence, shapes, found, pairs, judged, n_studies)
    RESULTS.write_text(text)
    print(text)


def page(
    existence: list[Case],
    shapes: list[Case],
    found: list[Counter[str]],
    pairs: list[tuple[str, int, int]],
    judged: list[Counter[str]],
    n: int,
) -> str:
    def share(count: int) -> str:
        return f"{100 * count / n:.0f}"

    without = ("constant", "too-few-cells", "wrong-direction")
    first = [
        [case.law, str(case.n_cells), str(case.n_seeds), f"{case.noise:.0%}", "yes" if case.seed_effect else "no",
         "falls" if case.metric == "cross_entropy" else "not known",
         share(n - sum(counts[status] for status in without)), share(counts["wrong-direction"])]
        for case, counts in zip(existence, found, strict=False)
    ]  # fmt: skip
    names = list(dict.fromkeys(name for counts in found[len(existence) :] for name in counts))
    second = [
        [case.law, str(case.n_cells), f"{case.noise:.0%}", *(share(counts[name]) for name in names)]
        for case, counts in zip(shapes, found[len(existence) :], strict=True)
    ]
    third = [
        [name, str(n_cells), *(share(said[way]) for way in WAYS), "power" if PAIRS[name] else "false findings"]
        for (name, n_cells, _), said in zip(pairs, judged, strict=True)
    ]
    return "\n".join(
        [
            "# Decisions about laws",
            "",
            provenance(f"{n} studies a row, seeds 0 to {n - 1}."),
            "## Is there a law?",
            "",
            "Percent of studies of which a law or a bend was reported; and, where the metric is known to fall, of "
            "which a rise was.",
            "",
            table(["truth", "cells", "seeds", "noise", "seed effect", "direction", "law or bend, %", "rise, %"], first),
            "## Which form?",
            "",
            "Percent of studies by what was reported: the named form, `undecided`, or a status without a law.",
            "",
            table(["truth", "cells", "noise", *names], second),
            "## Which metric obeys better?",
            "",
            "Percent of studies in which `judge` said that the first metric follows the law better or worse (p ≤ 0.05 "
            "and the interval of the misfit ratio excludes 1), and that it seems to (p ≤ 0.05 alone). Every pair has "
            "random numbers of its own.",
            "",
            table(["pair", "cells", *(f"{way}, %" for way in WAYS), "these are"], third),
        ]
    )


if __name__ == "__main__":
    main()
