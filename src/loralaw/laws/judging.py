"""Which metric obeys the law? Every metric scored on the same cells, and pairs of metrics compared on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loralaw.laws.cells import check_lists, check_number_columns
from loralaw.laws.contexts import DESIGN, check_one_text
from loralaw.laws.fitting import finished_rows, known_axes, known_metrics
from loralaw.laws.judge_sentences import comparison_sentence
from loralaw.laws.metric_curve import FEWEST_LEVELS, MetricCurve, statistics
from loralaw.laws.metrics import axis_named, metric_named
from loralaw.laws.ranks import ranks

Floats = NDArray[np.float64]

REFERENCE = "miub_nats"
RIVALS = ("cross_entropy", "perplexity", "norm_ratio")
"""What MIUB is compared with: the two metrics it is to replace, and a control that costs nothing."""
_DOWNSTREAM = ("choice_accuracy", "accuracy")
_N_EXCHANGES = 999
_N_RESAMPLES = 499
_LARGEST_LOG = float(np.log(1e6))


@dataclass(frozen=True)
class Score:
    """A number with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class MetricScores:
    """How well one metric obeys the law along one axis, on the cells that all judged metrics have.

    Args:
        metric: Column of the metric.
        axis: Column of the sizes.
        increasing: The direction that was judged: the asserted one, or the one that the data show.
        p_trend: p of the permutation test of "no dependence on the axis".
        monotonicity: Kendall's τ of the level means with size, in that direction: 1 where every step goes its way.
        misfit: Root mean square of the cells about the metric's own best law, over the law's range; seeds' own shifts
            removed.
        held_out: Error at levels that were left out: the law of the smaller ones predicts each of the last third, over
            the range.
        seed_spread: Spread between seeds over the spread between levels; NaN with one seed.
        n_levels: Levels.
        n_seeds: Seeds that were run at every level.
    """

    metric: str
    axis: str
    increasing: bool
    p_trend: float
    monotonicity: Score
    misfit: Score
    held_out: Score
    seed_spread: Score
    n_levels: int
    n_seeds: int


@dataclass(frozen=True)
class Comparison:
    """Does the first metric obey the law of an axis better than the second? Ratios below 1 say that it does.

    Args:
        first: Column of a metric.
        second: Column of another one.
        axis: Column of the sizes.
        misfit_ratio: Misfit of the first over that of the second.
        p_misfit: p of "the cells' deviations from the law could be exchanged between the two metrics".
        held_out_ratio: The same of the errors at left-out levels, which few levels hardly tell apart.
        p_held_out: Its p.
        sentence: What to make of it.
    """

    first: str
    second: str
    axis: str
    misfit_ratio: Score
    p_misfit: float
    held_out_ratio: Score
    p_held_out: float
    sentence: str


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of a metric with the accuracy that users care about, over configurations.

    Args:
        metric: Column of the metric.
        downstream: Column of the accuracy.
        correlation: Positive where a better metric goes with a better accuracy; the sign of what is measured inside the
            adapter is that of "smaller is better", as its source claims.
        n_configurations: Means over seeds that were ranked.
    """

    metric: str
    downstream: str
    correlation: Score
    n_configurations: int


@dataclass(frozen=True)
class Judgement:
    """What `judge` found.

    Args:
        scores: By axis, then metric.
        comparisons: By axis.
        agreements: By metric; empty where no accuracy was measured.
        not_judged: Axes and pairs without a judgement, each a sentence with its reason.
        n_left_out: Rows that did not finish, or lack one of the metrics: all are judged on the same cells.
    """

    scores: list[MetricScores]
    comparisons: list[Comparison]
    agreements: list[Agreement]
    not_judged: list[str]
    n_left_out: int


def judge(
    table: pl.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    axes: Sequence[str] | None = None,
    reference: str = REFERENCE,
    rivals: Sequence[str] = RIVALS,
) -> Judgement:
    """Say which metric obeys the law along every axis, with intervals, and whether one does so better than others.

    Metrics are decided between by misfit, the statistic with power: held-out error can hardly tell metrics apart at 12
    cells. A difference is said plainly where p ≤ 0.05 and the interval of the misfit ratio excludes 1, else it "seems".
    How often that is right: `benchmarks/results/law_decisions.md`.

    Args:
        table: As for `fit`.
        metrics: Columns to score, on the rows that have them all; if not given, every known one that any row has.
        axes: Columns of sizes; if not given, the known ones with two levels or more. An axis with fewer than four is
            not judged: any law fits three.
        reference: Compared with each of the rivals.
        rivals: Columns.

    Raises:
        TableError: As for `fit`.

    **Source**: ours; held-out error as in common practice, Kendall's τ and the exchange of residual pairs standard.

    **Cost**: a tenth of a second a metric and axis of a few levels; with 1,000 levels some ten seconds.
    """
    check_lists(metrics=metrics, axes=axes, rivals=rivals)
    check_one_text(table)
    finished = finished_rows(table)
    axes = list(dict.fromkeys(axes or known_axes(finished, fewest_levels=2)))
    asked = [name for name in (reference, *rivals) if name in table.columns or name not in (REFERENCE, *RIVALS)]
    metrics = list(dict.fromkeys((*(metrics or known_metrics(finished, [])), *asked)))
    check_number_columns(table, metrics, axes)
    measured = finished.filter(pl.all_horizontal(pl.col(metrics).cast(pl.Float64).is_finite()))
    scores, comparisons, not_judged = list[MetricScores](), list[Comparison](), list[str]()
    for axis in axes:
        curves = _curves(measured, metrics, axis)
        judged = {metric: curve for metric, curve in curves.items() if curve.is_judged}
        not_judged += _not_judged(curves, axis)
        scores += [_scores(curve, metric, axis) for metric, curve in judged.items()]
        for rival in dict.fromkeys(rivals):
            if reference in judged and rival in judged and rival != reference:
                if judged[reference].values.shape == judged[rival].values.shape:
                    comparisons.append(_compared(judged[reference], judged[rival], reference, rival, axis))
                else:
                    pair = " and ".join(metric_named(name).label for name in (reference, rival))
                    not_judged.append(f"{pair} are not compared along {_axis(axis)}: one is the same whatever the seed")
    scored = list(dict.fromkeys(each.metric for each in scores))
    return Judgement(scores, comparisons, _agreements(measured, scored), not_judged, table.height - measured.height)


def _curves(measured: pl.DataFrame, metrics: Sequence[str], axis: str) -> dict[str, MetricCurve]:
    """Every metric along an axis of which cells have a size."""
    if not measured.height or measured[axis].null_count() == measured.height:
        return {}
    return {metric: MetricCurve.read(measured, metric, axis) for metric in metrics}


def _not_judged(curves: dict[str, MetricCurve], axis: str) -> list[str]:
    """Why an axis, or a metric along it, has no scores."""
    if not curves:
        return [f"along {_axis(axis)} nothing is judged: no finished cell has a size and all of the metrics"]
    if all(len(curve.levels) < FEWEST_LEVELS for curve in curves.values()):
        reason = f"it takes {FEWEST_LEVELS} levels, run in the same settings; any law fits fewer"
        return [f"along {_axis(axis)} nothing is judged: {reason}"]
    constant = [metric_named(metric).label for metric, curve in curves.items() if not curve.is_judged]
    return [f"{label} does not change along {_axis(axis)}" for label in constant]


def _axis(name: str) -> str:
    return axis_named(name).label


def _scores(curve: MetricCurve, metric: str, axis: str) -> MetricScores:
    """With intervals from residuals that are drawn again."""
    seen = statistics(curve.levels, (curve.law + curve.residual)[None])[0]
    picked = np.random.default_rng(0).integers(0, curve.values.size, (_N_RESAMPLES, curve.values.size))
    again = statistics(curve.levels, curve.law + curve.inflation * curve.resampled(picked))
    low, high = np.quantile(again, [0.025, 0.975], axis=0)
    low, high = np.minimum(seen, low), np.maximum(seen, high)
    held_out, misfit, spread, tau = (Score(*map(float, ends)) for ends in zip(seen, low, high, strict=True))
    return MetricScores(
        metric=metric,
        axis=axis,
        increasing=curve.increasing,
        p_trend=curve.p_trend,
        monotonicity=tau,
        misfit=misfit,
        held_out=held_out,
        seed_spread=spread,
        n_levels=len(curve.levels),
        n_seeds=curve.n_seeds,
    )


def _compared(first: MetricCurve, second: MetricCurve, first_name: str, second_name: str, axis: str) -> Comparison:
    """Pairs of residuals of the same cell: exchanged for p, resampled together for the interval."""
    rng, levels, shape = np.random.default_rng(0), first.levels, first.residual.shape

    def log_ratios(of_first: Floats, of_second: Floats) -> Floats:
        a, b = statistics(levels, first.law + of_first), statistics(levels, second.law + of_second)
        return np.asarray(np.log(np.maximum(a[:, :2], 1e-300) / np.maximum(b[:, :2], 1e-300)))

    seen = log_ratios(first.residual[None], second.residual[None])[0]
    swapped = rng.random((_N_EXCHANGES, *shape)) < 0.5
    exchanged = log_ratios(
        np.where(swapped, second.residual, first.residual), np.where(swapped, first.residual, second.residual)
    )
    p = (1 + (np.abs(exchanged) >= np.abs(seen) - 1e-12).sum(axis=0)) / (_N_EXCHANGES + 1)
    picked = rng.integers(0, first.residual.size, (_N_RESAMPLES, first.residual.size))
    again = log_ratios(first.resampled(picked), second.resampled(picked))
    half = first.t * first.inflation * again.std(axis=0)
    held_out, misfit = (_ratio(value, width) for value, width in zip(seen, half, strict=True))
    sentence = comparison_sentence(first_name, second_name, axis, misfit, float(p[1]))
    return Comparison(first_name, second_name, axis, misfit, float(p[1]), held_out, float(p[0]), sentence)


def _ratio(log_value: float, half_width: float) -> Score:
    """A ratio from its logarithm; of an interval wider than a million times either way, both ends are open."""
    value = float(np.exp(np.clip(log_value, -_LARGEST_LOG, _LARGEST_LOG)))
    if half_width > _LARGEST_LOG:
        return Score(value, 0.0, float("inf"))
    return Score(value, value * float(np.exp(-half_width)), value * float(np.exp(half_width)))


def _agreements(table: pl.DataFrame, metrics: Sequence[str]) -> list[Agreement]:
    """Of every metric with the first accuracy that was measured, over means of seeds."""
    measured = (name for name in _DOWNSTREAM if name in table.columns and table[name].is_not_null().any())
    downstream = next(measured, None)
    if downstream is None:
        return []
    settings = [name for name in DESIGN if name in table.columns]
    found = []
    for metric in metrics:
        if metric == downstream:
            continue
        rows = table.drop_nulls([metric, downstream])
        means = (
            rows.sort(*settings, metric)
            .group_by(settings, maintain_order=True)
            .agg(pl.col(metric, downstream).mean())
            .sort(settings, nulls_last=True)
        )
        if means.height < FEWEST_LEVELS:
            continue
        sign = 1 if metric_named(metric).increasing else -1
        correlation = _spearman(sign * means[metric].to_numpy(), means[downstream].to_numpy())
        found.append(Agreement(metric, downstream, correlation, means.height))
    return found


def _spearman(x: Floats, y: Floats) -> Score:
    """With the interval of Fisher's z, its error that of Bonett and Wright for ranks."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return Score(float("nan"), float("nan"), float("nan"))
    value = float(np.corrcoef(ranks(x), ranks(y))[0, 1])
    z, error = np.arctanh(np.clip(value, -1 + 1e-9, 1 - 1e-9)), np.sqrt((1 + value**2 / 2) / max(len(x) - 3, 1))
    return Score(value, float(np.tanh(z - 1.96 * error)), float(np.tanh(z + 1.96 * error)))
