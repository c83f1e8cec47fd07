"""How good advice is, in simulated worlds whose truth is known: `recommend` and `design`.

    python benchmarks/advice.py [--worlds 200]

`recommend`: three base models, four ranks, four data sizes, two seeds; the best under a budget, and the cheapest to
reach a target. Is the true value of the chosen configuration inside the stated interval, and how far is it from the
best that could be had (regret, share of the metric's range)? `design`: the interval at 1,024 after its cells over that
after random cells of the same cost. Writes `results/advice.md`.
"""

import argparse
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from provenance import provenance, table

from loralaw.laws import recommend
from loralaw.laws.designing import next_cells
from loralaw.laws.forms import Form
from loralaw.laws.law import Law
from loralaw.laws.posterior import law_posterior

RESULTS = Path(__file__).parent / "results" / "advice.md"
Floats = NDArray[np.float64]
BASES = {"small": 4e5, "middle": 1.6e6, "large": 6.4e6}
RANKS, SIZES = (1, 4, 16, 64), (100, 400, 1600, 6400)
WORLDS = ("separable", "multiplicative", "separable with bumps")
NOISES = (0.01, 0.03)


class World:
    """A true law of cross-entropy in model size, rank and data, and a cost."""

    def __init__(self, kind: str, noise: float, number: int) -> None:
        self._rng = np.random.default_rng([number, WORLDS.index(kind)])
        self._kind, self._noise = kind, noise
        self._exponents = self._rng.uniform((0.2, 0.2, 0.2), (0.6, 1.0, 0.8))
        self._amplitudes = self._rng.uniform((0.5, 0.2, 0.5), (1.5, 0.6, 2.0))
        self._bumps: dict[tuple[str, int, int], float] = {}
        self.range = 1.0
        values = [self.truth(*setting) for setting in itertools.product(BASES, RANKS, SIZES)]
        self.range = float(np.ptp(values))

    def truth(self, base: str, rank: int, size: int) -> float:
        x = np.array([BASES[base] / 4e5, rank, size / 100]) ** -self._exponents
        if self._kind == "multiplicative":
            return float(1 + 2 * np.prod(x))
        bump = 0.0
        if "bumps" in self._kind:
            bump = self._bumps.setdefault((base, rank, size), float(0.02 * self._rng.standard_normal()))
        return float(1 + self._amplitudes @ x + bump * self.range)

    @staticmethod
    def seconds(base: str, rank: int, size: int) -> float:
        return 1e-9 * BASES[base] * size * (1 + rank / 256)

    def table(self) -> pl.DataFrame:
        rows = [
            {
                "base_model": base,
                "method": "lora",
                "rank": rank,
                "n_train_examples": size,
                "n_params_total": int(BASES[base]),
                "seed": seed,
                "cross_entropy": self.truth(base, rank, size) + self._noise * self.range * self._rng.standard_normal(),
                "train_seconds": self.seconds(base, rank, size) * float(np.exp(0.05 * self._rng.standard_normal())),
            }
            for base, rank, size, seed in itertools.product(BASES, RANKS, SIZES, (0, 1))
        ]
        return pl.DataFrame(rows)

    def best(self, budget: float) -> float:
        """The least truth among all candidates that the budget allows."""
        candidates = itertools.product(BASES, (*RANKS, 128), (*SIZES, 12800))
        return min(self.truth(*setting) for setting in candidates if self.seconds(*setting) <= budget)

    def cheapest(self, target: float) -> float:
        candidates = itertools.product(BASES, (*RANKS, 128), (*SIZES, 12800))
        return min((self.seconds(*s) for s in candidates if self.truth(*s) <= target), default=float("nan"))


def advised(work: tuple[str, float, int]) -> list[dict[str, float]]:
    """Of one world: for every budget, whether the truth lies in the interval, and the regret; then for a target."""
    kind, noise, number = work
    world, found = World(kind, noise, number), []
    rows = world.table()
    for budget in (0.5, 2.0, 8.0, 100.0):
        best = recommend(rows, budget={"seconds": budget}).best
        assert best is not None
        chosen = best.settings["base_model"], best.settings["rank"], best.settings["n_train_examples"]
        truth = world.truth(*chosen)  # type: ignore[arg-type]
        regret = (truth - world.best(budget)) / world.range
        found.append(
            {"inside": best.low <= truth <= best.high, "regret": regret, "width": (best.high - best.low) / world.range}
        )
    target = float(np.quantile(rows["cross_entropy"].to_numpy(), 0.2))
    best = recommend(rows, target={"cross_entropy": target}).best
    if best is not None:
        chosen = best.settings["base_model"], best.settings["rank"], best.settings["n_train_examples"]
        truth = world.truth(*chosen)  # type: ignore[arg-type]
        dearer = world.seconds(*chosen) / world.cheapest(target)  # type: ignore[arg-type]
        found.append(
            {"inside": best.low <= truth <= best.high, "dearer": dearer, "missed": truth - target > 0.01 * world.range}
        )
    return found


COSTS: dict[str, Callable[[Floats], Floats]] = {
    "flat": lambda x: np.ones_like(x),
    "proportional to size": lambda x: x,
    "1 + size / 32": lambda x: 1 + x / 32,
}
N_NEXT, FAR = 6, 1024.0


def designed(work: tuple[str, int | None, float, int]) -> tuple[float, float]:
    """Width of the interval at 1,024 after designed cells, and after random ones: no more of them, no dearer."""
    cost_name, k, noise, number = work
    rng = np.random.default_rng(number)
    sizes, seeds = np.repeat(2.0 ** np.arange(6), 2), np.tile([0, 1], 6)
    sd = noise * (1 - 32**-0.5)

    def losses(x: Floats) -> Floats:
        return np.asarray(0.5 + x**-0.5 + sd * rng.standard_normal(len(x)))

    loss = losses(sizes)
    form, run = Form("power+floor", ("rank",)), np.random.default_rng(0)
    draws = law_posterior(form, sizes[:, None], loss, seeds, increasing=False, rng=run)
    assert draws is not None
    law, candidates = Law(draws, False, None), 2.0 ** np.arange(9)
    costs = COSTS[cost_name](candidates)
    asked, curves = law.curves(np.array([[FAR]]))[:, 0], law.curves(candidates[:, None])
    picked, _ = next_cells(law, asked, curves, costs, k, N_NEXT * float(costs.mean()))
    budget = costs[picked].sum()
    at_random: list[int] = []
    while (k is None or len(at_random) < k) and (
        fitting := np.flatnonzero(costs <= budget - costs[at_random].sum() + 1e-9)
    ).size:
        at_random.append(int(rng.choice(fitting)))

    def width(chosen: list[int]) -> float:
        x = np.concatenate([sizes, candidates[chosen]])
        new_seeds = np.concatenate([seeds, 2 + np.arange(len(chosen))])
        after = law_posterior(
            form, x[:, None], np.concatenate([loss, losses(candidates[chosen])]), new_seeds, increasing=False, rng=run
        )
        assert after is not None
        low, high = np.quantile(after.at(np.array([[FAR]])), [0.025, 0.975])
        return float(high - low)

    return width(picked), width(at_random)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=200)
    n_worlds = parser.parse_args().worlds
    kinds = list(itertools.product(WORLDS, NOISES))
    designs = list(itertools.product(COSTS, (N_NEXT, None), (0.03, 0.1)))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        told = list(pool.map(advised, [(*kind, number) for kind in kinds for number in range(n_worlds)]))
        widths = list(pool.map(designed, [(*kind, number) for kind in designs for number in range(n_worlds)]))
    first = [recommend_row(kind, told[i * n_worlds : (i + 1) * n_worlds]) for i, kind in enumerate(kinds)]
    second = [design_row(kind, np.array(widths[i * n_worlds : (i + 1) * n_worlds])) for i, kind in enumerate(designs)]
    text = "\n".join(
        [
            "# Advice in worlds whose truth is known",
            "",
            provenance(f"{n_worlds} worlds a row, seeds 0 to {n_worlds - 1}."),
            "## `recommend`",
            "",
            "Four budgets a world, and one target (a fifth of all cells reach it). Regret and width: share of the "
            "metric's range over the measured cells, median and 95th percentile. Dearer: cost of the advice over that "
            "of the cheapest that truly reaches the target, median; missed: percent of advice that falls short of the "
            "target by more than 1 % of the range.",
            "",
            table(
                ["world", "noise", "truth inside, %", "regret", "width", "target: inside, %", "dearer", "missed, %"],
                first,
            ),
            "## `design`",
            "",
            f"12 cells on 1 to 32; the question is the metric at {FAR:,.0f}. More cells on 1 to 256 for what {N_NEXT} "
            "of average cost would cost; the random ones are as many at most, and no dearer than the designed. Ratio "
            "of medians, and of pairs the percent in which the designed cells leave the narrower interval.",
            "",
            table(["cost of a cell", "cells", "noise", "width, designed over random", "narrower, %"], second),
        ]
    )
    RESULTS.write_text(text)
    print(text)


def recommend_row(kind: tuple[str, float], worlds: list[list[dict[str, float]]]) -> list[str]:
    budgets = [each for world in worlds for each in world if "regret" in each]
    targets = [each for world in worlds for each in world if "dearer" in each]

    def spread(name: str) -> str:
        middle, high = np.quantile([each[name] for each in budgets], [0.5, 0.95])
        return f"{middle:.3f} ({high:.3f})"

    def percent(rows: list[dict[str, float]], name: str) -> str:
        return f"{100 * np.mean([each[name] for each in rows]):.1f}"

    dearer = f"{np.nanmedian([each['dearer'] for each in targets]):.2f}"
    return [
        kind[0], f"{kind[1]:.0%}", percent(budgets, "inside"), spread("regret"), spread("width"),
        percent(targets, "inside"), dearer, percent(targets, "missed"),
    ]  # fmt: skip


def design_row(kind: tuple[str, int | None, float], widths: Floats) -> list[str]:
    ours, random = np.median(widths, axis=0)
    narrower = f"{100 * (widths[:, 0] < widths[:, 1]).mean():.0f}"
    cells = "any number" if kind[1] is None else f"at most {kind[1]}"
    return [kind[0], cells, f"{kind[2]:.0%}", f"{ours / random:.2f}", narrower]


if __name__ == "__main__":
    main()
