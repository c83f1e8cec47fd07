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


def once(table: pl.DataFrame) -> pl.DataFrame:
    """Without the rank-stabilised adapters of rank 1: both conventions give them the same scale, they are LoRA's."""
    return table.filter(~((pl.col("method") == "rslora") & (pl.col("rank") == 1)))


def concordance(x: Floats, y: Floats) -> Floats:
    """(n, n) 1 where a pair is ordered alike by both, -1 where it is not, 0 on ties and on the diagonal."""
    return np.asarray(np.sign(x[:, None] - x[None]) * np.sign(y[:, None] - y[None]))


def kendall(x: Floats, y: Floats, inside: NDArray[np.bool_] | None = None) -> float:
    """Kendall's tau-a: concordant less discordant pairs over all pairs; `inside` says which pairs count."""
    counted = _counted(len(x), inside)
    return float((concordance(x, y) * counted).sum() / counted.sum())


def resampled(
    metrics: Sequence[Floats],
    target: Floats,
    inside: NDArray[np.bool_] | None = None,
    units: pl.Series | None = None,
) -> tuple[Floats, Floats]:
    """Tau of each metric with the target, (metrics,), and of the bootstrap's draws, (metrics, draws).

    It draws configurations, or `units` of rows that stay together, for all metrics the same ones: differences are
    paired. A row that was drawn twice makes no pair with itself.
    """
    counted = _counted(len(target), inside)
    matrices = [concordance(metric, target) * counted for metric in metrics]
    codes = np.arange(len(target)) if units is None else np.unique(units.to_numpy(), return_inverse=True)[1]
    n_units = int(codes.max()) + 1
    drawn = np.random.default_rng(0).multinomial(n_units, np.full(n_units, 1 / n_units), _N_RESAMPLES)
    weights = drawn[:, codes].astype(float)
    n_pairs = np.maximum(_weighted(counted, weights), 1e-12)
    seen = np.array([matrix.sum() / counted.sum() for matrix in matrices])
    return seen, np.array([_weighted(matrix, weights) / n_pairs for matrix in matrices])


def kendalls(
    metrics: Sequence[Floats],
    target: Floats,
    inside: NDArray[np.bool_] | None = None,
    units: pl.Series | None = None,
) -> tuple[list[Interval], list[list[Interval]]]:
    """Tau of each metric with the target, and of each pair of metrics the difference; with 95 % intervals."""
    seen, again = resampled(metrics, target, inside, units)
    n = range(len(seen))
    return (
        [interval_of(seen[i], again[i]) for i in n],
        [[interval_of(seen[i] - seen[j], again[i] - again[j]) for j in n] for i in n],
    )


def mean_of_seeds(places: Sequence[Floats]) -> tuple[float, float]:
    """Mean over places of the means over seeds, and half of its 95 % interval.

    The spread between seeds is pooled over the places, which are taken as they are.
    """
    freedom = sum(len(seeds) - 1 for seeds in places)
    variance = sum(float(((seeds - seeds.mean()) ** 2).sum()) for seeds in places) / freedom
    error = np.sqrt(variance * np.mean([1 / len(seeds) for seeds in places]) / len(places))
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


def _weighted(matrix: Floats, weights: Floats) -> Floats:
    """Sums of the matrix over pairs, each configuration as often as it was drawn."""
    return np.asarray(((weights @ matrix) * weights).sum(axis=1))


def interval_of(value: float, again: Floats) -> Interval:
    low, high = np.quantile(again, [0.025, 0.975])
    return Interval(float(value), float(min(low, value)), float(max(high, value)))
