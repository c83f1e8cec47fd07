"""Rank correlations of metrics over configurations, with intervals that draw the configurations again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]

SETTINGS = ("base_model", "method", "rank", "n_train_examples", "task")
"""What makes a configuration; cells that differ in their seed are averaged."""
_N_RESAMPLES = 999


@dataclass(frozen=True)
class Interval:
    value: float
    low: float
    high: float


def configurations(cells: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The means over seeds, in a fixed order."""
    return cells.group_by(SETTINGS).agg(pl.col(*columns).mean()).sort(SETTINGS)


def concordance(x: Floats, y: Floats) -> Floats:
    """(n, n) 1 where a pair is ordered alike by both, -1 where it is not, 0 on ties and on the diagonal."""
    return np.asarray(np.sign(x[:, None] - x[None]) * np.sign(y[:, None] - y[None]))


def kendall(x: Floats, y: Floats, inside: NDArray[np.bool_] | None = None) -> float:
    """Kendall's tau-a: concordant less discordant pairs over all pairs; `inside` says which pairs count."""
    return _tau(concordance(x, y), _counted(len(x), inside))


def kendalls(
    metrics: Sequence[Floats], target: Floats, inside: NDArray[np.bool_] | None = None
) -> tuple[list[Interval], list[list[Interval]]]:
    """Tau of each metric with the target, and of each pair of metrics the difference; with 95 % intervals.

    The bootstrap draws configurations, all metrics on the same ones: differences are paired. A configuration that was
    drawn twice makes no pair with itself.
    """
    matrices, counted = [concordance(metric, target) for metric in metrics], _counted(len(target), inside)
    rng, n = np.random.default_rng(0), len(target)
    weights = rng.multinomial(n, np.full(n, 1 / n), _N_RESAMPLES).astype(float)
    n_pairs = _weighted(counted, weights)
    seen = np.array([_tau(matrix, counted) for matrix in matrices])
    again = np.array([_weighted(matrix * counted, weights) / np.maximum(n_pairs, 1e-12) for matrix in matrices])
    of_each = [_interval(seen[i], again[i]) for i in range(len(seen))]
    differences = [
        [_interval(seen[i] - seen[j], again[i] - again[j]) for j in range(len(seen))] for i in range(len(seen))
    ]
    return of_each, differences


def mean_of_seeds(places: Sequence[Floats]) -> tuple[float, float]:
    """Mean over places of the means over seeds, and half of its 95 % interval.

    The spread between seeds is pooled over the places, which are taken as they are.
    """
    freedom = sum(len(seeds) - 1 for seeds in places)
    variance = sum(float(((seeds - seeds.mean()) ** 2).sum()) for seeds in places) / freedom
    error = np.sqrt(variance / np.mean([len(seeds) for seeds in places]) / len(places))
    return float(np.mean([seeds.mean() for seeds in places])), float(error * stdtrit(freedom, 0.975))


def same(*columns: pl.Series) -> NDArray[np.bool_]:
    """(n, n) whether two rows have the same value in all columns: pairs that are compared."""
    alike = np.ones((len(columns[0]), len(columns[0])), dtype=bool)
    for column in columns:
        codes = column.rank("dense").to_numpy()
        alike &= codes[:, None] == codes[None]
    return alike


def _counted(n: int, inside: NDArray[np.bool_] | None) -> Floats:
    counted = np.ones((n, n)) if inside is None else inside.astype(float)
    np.fill_diagonal(counted, 0.0)
    return counted


def _tau(matrix: Floats, counted: Floats) -> float:
    return float((matrix * counted).sum() / counted.sum())


def _weighted(matrix: Floats, weights: Floats) -> Floats:
    """Sums of the matrix over pairs, each configuration as often as it was drawn."""
    return np.asarray(((weights @ matrix) * weights).sum(axis=1))


def _interval(value: float, again: Floats) -> Interval:
    low, high = np.quantile(again, [0.025, 0.975])
    return Interval(float(value), float(min(low, value)), float(max(high, value)))
