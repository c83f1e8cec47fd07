"""Whether several judges rank the same things alike: concordance with a permutation test, and rank correlation."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loralaw.laws.ranks import ranks

Values = NDArray[np.floating[Any]]

N_PERMUTATIONS = 9_999
PERMUTATION_SEED = 20_251_021
"""Fixed, so that a page made twice says the same; which one does not matter."""


@dataclass(frozen=True)
class Concordance:
    """How alike judges rank items, from 0 (not at all) to 1 (the same)."""

    w: float
    p: float
    n_judges: int
    n_items: int
    mean_ranks: list[float]
    """By item, 1 for the lowest."""

    @property
    def by_chance(self) -> float:
        """What W is on average when nothing is shared."""
        return 1 / self.n_judges


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman correlations of pairs."""

    mean: float
    lowest: float
    n_pairs: int


def concordance(values: Values) -> Concordance | None:
    """Kendall's coefficient of concordance and how often chance gives as much.

    W = 12 S / (m² (k³ − k) − m Σ (t³ − t)), with S the squared distances of the items' rank sums from their mean and t
    the sizes of groups of equal values within a judge. p = (1 + number of permutations with S at least as
    large) / (1 + number of permutations); every judge's ranks are shuffled on their own, so p holds for any
    distribution of the values and is never 0.

    Args:
        values: (m judges, k items), finite, any unit: only their order within a judge counts.

    Returns:
        None where fewer than two judges or items are given, or no judge tells any two items apart.

    **Source**: Kendall and Babington Smith, The Problem of m Rankings (1939), with their correction for ties; the
    permutation p is Phipson and Smyth, Permutation P-values Should Never Be Zero (2010).
    """
    n_judges, n_items = values.shape
    ranked = np.stack([ranks(of_judge) for of_judge in values])
    tied = sum(float(n) ** 3 - n for row in ranked for n in np.unique(row, return_counts=True)[1])
    largest = n_judges**2 * (n_items**3 - n_items) - n_judges * tied
    if n_judges < 2 or n_items < 2 or largest <= 0:
        return None
    seen = float(_spread(ranked.sum(0)))
    p = (1 + int((_shuffled_spreads(ranked) >= seen).sum())) / (1 + N_PERMUTATIONS)
    return Concordance(12 * seen / largest, p, n_judges, n_items, [float(r) for r in ranked.mean(0)])


def smallest_p(n_judges: int, n_items: int) -> float:
    """The chance that judges who share nothing rank without ties exactly alike: no test can go below it.

    >>> round(smallest_p(3, 3), 4)
    0.0278
    """
    return math.exp(-(n_judges - 1) * math.lgamma(n_items + 1))


def rank_correlation(groups: Sequence[Sequence[Values]]) -> RankCorrelation | None:
    """Spearman's correlation over all pairs within each group; pairs with a constant side have none and are left out.

    Args:
        groups: vectors of one length a group; the values of a pair are matched by place.

    Returns:
        None where there is no pair.

    **Source**: Spearman, The Proof and Measurement of Association between Two Things (1904): Pearson's correlation of
    the ranks, equal values sharing their mean rank.
    """
    found = [
        float(np.corrcoef(ranks(a), ranks(b))[0, 1])
        for group in groups
        for a, b in itertools.combinations(group, 2)
        if np.ptp(a) > 0 and np.ptp(b) > 0
    ]
    return RankCorrelation(sum(found) / len(found), min(found), len(found)) if found else None


def _shuffled_spreads(ranks: Values) -> Values:
    """S of `N_PERMUTATIONS` shuffles; judge by judge, so that memory stays small. Ranks are halves: sums are exact."""
    random = np.random.default_rng(PERMUTATION_SEED)
    totals = np.zeros((N_PERMUTATIONS, ranks.shape[1]))
    for judge in ranks:
        totals += random.permuted(np.tile(judge, (N_PERMUTATIONS, 1)), axis=1)
    return _spread(totals)


def _spread(totals: Values) -> Values:
    """S, along the last axis; the mean of the totals is m (k + 1) / 2, a multiple of a half."""
    centre = totals.sum(-1, keepdims=True) / totals.shape[-1]
    return np.asarray(((totals - centre) ** 2).sum(-1))
