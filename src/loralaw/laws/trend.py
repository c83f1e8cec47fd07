"""Two tests that come before any law: does the metric depend on the axis at all, and does it bend?"""

import itertools
from math import exp
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import fdtrc, gammaln

from loralaw.laws.exponent_grid import HIGHEST_EXPONENT, LOWEST_EXPONENT, arc_length_grid, unit_directions
from loralaw.laws.posterior import seeds_recur

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

N_PARAMETERS = 3
"""Of one power law with a floor."""
_N_EXPONENTS = 40
_N_ORDERS = 999
_MOST_ORDERS_ENUMERATED = 2000
_MOST_ROWS_PERMUTED = 1000


class Trend(NamedTuple):
    """What the permutation test says of each direction, and of both together; and which one the data show."""

    p_falling: float
    p_rising: float
    p_either: float
    increasing: bool

    def p(self, increasing: bool | None) -> float:
        """p of this direction, or of either where none was asserted beforehand (None)."""
        if increasing is None:
            return self.p_either
        return self.p_rising if increasing else self.p_falling


def n_orders(block: Ints) -> int:
    """In how many orders the rows can be put without leaving their blocks: no p can be below one over it."""
    return round(exp(min(float(gammaln(np.bincount(block) + 1.0).sum()), 40.0)))  # more than e⁴⁰ are all the same


def trend_test(level: Floats, value: Floats, block: Ints, rng: np.random.Generator) -> Trend:
    """Does the metric depend on the axis through any power law, falling or rising?

    Statistic: max over exponents of ⟨y, f_a⟩ (falling), -⟨y, f_a⟩ (rising) or |⟨y, f_a⟩| (either), y and f_a = x^(-a)
    centred inside blocks, f_a of length 1. Under "no dependence" the values of a block can be put in any order, so p is
    the share of orders with as large a statistic. Where a direction was asserted beforehand its own p is the one to
    use: with three levels and two seeds there are 36 orders, two of which (all up, all down) are often equally extreme.

    Args:
        level: (n,) sizes, at least two distinct ones.
        value: (n,) the metric.
        block: (n,) number of the (context, seed) of each cell.
        rng: Source of the random orders, where there are too many to take all.

    **Source**: ours. Measured on pure noise: 3 to 7 % false laws at p ≤ 0.05, while "beats the constant on held-out
    cells" gives 32 to 40 %. Exact up to 1,000 rows; beyond, the orders' statistics are drawn from their normal limit.
    """
    by_block = np.argsort(block, kind="stable")
    level, value, block = level[by_block], value[by_block], block[by_block]
    sizes, level_number = np.unique(level, return_inverse=True)
    exponents = arc_length_grid(sizes, _N_EXPONENTS)[0] if len(sizes) > 2 else np.ones(1)
    shape = _centred(unit_directions(sizes, exponents)[:, level_number], block)
    length = np.linalg.norm(shape, axis=1, keepdims=True)
    shape = shape / np.where(length > 0, length, 1.0)  # no block has two levels: nothing can be seen
    rounding = 1e-12 * float(np.linalg.norm(value))
    value = _centred(value[None], block)[0]

    seen = shape @ value
    strongest = int(np.argmax(np.abs(seen)))
    if len(value) > _MOST_ROWS_PERMUTED:
        shuffled = _normal_limit(shape, value, block, rng)
    elif n_orders(block) <= _MOST_ORDERS_ENUMERATED:
        shuffled = value[_all_orders(block)] @ shape.T
    else:
        shuffled = value[np.argsort(block + rng.random((_N_ORDERS, len(block))), axis=1)] @ shape.T
        shuffled = np.vstack([seen, shuffled])  # the order seen is one of the orders
    return Trend(
        _share_as_large(shuffled, seen, rounding),
        _share_as_large(-shuffled, -seen, rounding),
        _share_as_large(np.abs(shuffled), np.abs(seen), rounding),
        bool(seen[strongest] < 0),
    )


def _share_as_large(shuffled: Floats, seen: Floats, rounding: float) -> float:
    """The share of orders whose largest value over exponents is as large as that seen, but for rounding."""
    return float((shuffled.max(axis=1) >= seen.max() - rounding).mean())


def _centred(rows: Floats, block: Ints) -> Floats:
    """(k, n) rows less their mean in each block; rows are sorted by block."""
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    sizes = np.diff(starts, append=len(block))
    return rows - np.repeat(np.add.reduceat(rows, starts, axis=1) / sizes, sizes, axis=1)


def _all_orders(block: Ints) -> Ints:
    """(n_orders, n) every order of the rows that leaves them in their blocks."""
    members = [np.flatnonzero(block == number) for number in np.unique(block)]
    return np.array([np.concatenate(order) for order in itertools.product(*map(itertools.permutations, members))])


def _normal_limit(shape: Floats, value: Floats, block: Ints, rng: np.random.Generator) -> Floats:
    """Draws of the statistics under random orders from the limit of many rows: normal, with their exact covariance.

    The covariance of Σ y f over orders inside blocks is Σ over blocks of (Σ y²)/(size - 1) · Σ f f'.
    """
    size = np.bincount(block)[block]
    variance = np.bincount(block, value**2)[block] / np.maximum(size - 1, 1)
    covariance = (shape * variance) @ shape.T
    draws = rng.multivariate_normal(np.zeros(len(covariance)), covariance, _N_ORDERS, method="eigh")
    return np.vstack([shape @ value, draws])


def bend_test(level: Floats, value: Floats, seed: Ints) -> float:
    """p of the F test of "one power law with a floor" against "any mean at each level".

    F = [rough/(L - 3)] / [pure/(n - L - seeds + 1)], rough the squares of the level means about the best law, pure
    those of the cells about the level means, both without the seeds' own shifts.

    Args:
        level: (n,) sizes of the points that the law is fitted to.
        value: (n,) their values.
        seed: (n,) numbers of their seeds.

    Returns:
        p, or NaN where four levels and two spare cells are not there to tell.

    **Source**: standard lack-of-fit test; measured by us: it calls a rise at the end in 88 to 100 % of studies with
    1 to 3 % noise, but a slope that halves in the middle in 8 to 37 %, because a floor imitates it.
    """
    sizes, number = np.unique(level, return_inverse=True)
    seed = np.unique(seed, return_inverse=True)[1] if seeds_recur(level, seed) else np.zeros_like(number)
    n_levels, spare = len(sizes), len(value) - len(sizes) - int(seed.max())
    if n_levels <= N_PARAMETERS or spare < 2:
        return float("nan")
    value = _without_seed_shifts(value - value.mean(), number, seed)
    count = np.bincount(number)
    mean = np.bincount(number, value) / count
    pure = float(((value - mean[number]) ** 2).sum())
    rough = _squares_about_best_law(sizes, mean, count)
    if pure <= 1e-24 * float(value @ value):
        return float("nan")  # no noise to compare with
    return float(fdtrc(n_levels - N_PARAMETERS, spare, (rough / (n_levels - N_PARAMETERS)) / (pure / spare)))


def _without_seed_shifts(value: Floats, level_number: Ints, seed: Ints) -> Floats:
    """Values less the shift of their seed, level means kept free; a balanced table needs one round, others a few."""
    for _ in range(30):
        residual = value - (np.bincount(level_number, value) / np.bincount(level_number))[level_number]
        value = value - (np.bincount(seed, residual) / np.bincount(seed))[seed]
    return value


def _squares_about_best_law(sizes: Floats, mean: Floats, count: Ints) -> float:
    """Weighted squares of level means about the best floor + amplitude·x^(-exponent)."""
    mean = mean - np.average(mean, weights=count)
    total = float(count @ mean**2)
    lowest, highest, explained = LOWEST_EXPONENT, HIGHEST_EXPONENT, 0.0
    for _ in range(8):  # each round is finer, so that the grid leaves less misfit than any noise does
        exponents = np.exp(np.linspace(np.log(lowest), np.log(highest), 64))
        shape = unit_directions(sizes, exponents)
        shape = shape - np.average(shape, axis=1, weights=count)[:, None]
        fits = (shape @ (count * mean)) ** 2 / (shape**2 @ count)
        best = int(np.argmax(fits))
        explained = max(explained, float(fits[best]))
        lowest, highest = float(exponents[max(best - 1, 0)]), float(exponents[min(best + 1, 63)])
    return max(total - explained, 0.0)
