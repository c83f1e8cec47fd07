"""Question 1: does each metric fall with rank, data and model size, and does the norm control do the same?"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from resampling import SETTINGS, Interval, kendall
from tables import AXES, CONTROLS, CONVENTIONS, ESTIMATORS, OUTSIDE, interval, label, markdown, percent

Floats = NDArray[np.float64]
_N_RESAMPLES = 1999
MOVES = {"n_params_total": "base_model", "complexity": "task"}
"""The setting that an axis stands for, where it has another name."""


@dataclass(frozen=True)
class Trend:
    """Of a metric along an axis, everything else equal.

    Args:
        tau: Kendall's tau of the metric with the size, mean over settings: -1 where it falls at every step.
        change: From the smallest size to the largest, as a ratio less 1; geometric mean over settings.
        n_settings: Combinations of everything else.
    """

    metric: str
    axis: str
    tau: Interval
    change: Interval | None
    n_settings: int

    @property
    def word(self) -> str:
        if self.tau.high < 0:
            return "falls"
        return "rises" if self.tau.low > 0 else "neither"


def trend(cells: pl.DataFrame, metric: str, axis: str, settings: Sequence[str] = SETTINGS) -> Trend:
    """The interval draws the settings again; seeds are averaged before, unless they count as settings."""
    others = [name for name in settings if name != MOVES.get(axis, axis)]
    means = cells.group_by(*others, axis).agg(pl.col(metric).mean())
    curves = [
        (part[axis].to_numpy().astype(float), part[metric].to_numpy())
        for _, part in means.sort(*others, axis).group_by(others, maintain_order=True)
    ]
    taus = np.array([kendall(x, y) for x, y in curves])
    positive = all((y > 0).all() for _, y in curves)
    logs = np.array([np.log(y[-1] / y[0]) for _, y in curves]) if positive else None
    picked = np.random.default_rng(0).integers(0, len(curves), (_N_RESAMPLES, len(curves)))
    change = None
    if logs is not None:
        change = Interval(*(float(np.expm1(x)) for x in (logs.mean(), *_ends(logs[picked].mean(axis=1)))))
    return Trend(metric, axis, Interval(float(taus.mean()), *_ends(taus[picked].mean(axis=1))), change, len(curves))


def _ends(again: Floats) -> tuple[float, float]:
    low, high = np.quantile(again, [0.025, 0.975])
    return float(low), float(high)


EVERY_SEED = (*SETTINGS, "seed")
"""For studies of few settings."""
METRICS = (*OUTSIDE, *ESTIMATORS, *CONTROLS)


def trend_table(cells: pl.DataFrame, axes: Mapping[str, str] = AXES, settings: Sequence[str] = SETTINGS) -> str:
    """By axis and metric, under each convention."""
    rows = []
    for axis, axis_label in axes.items():
        for metric in (name for name in METRICS if cells[name].null_count() == 0):  # a labelled task has no perplexity
            rows.append([axis_label, label(metric)])
            for method in CONVENTIONS:
                one = trend(cells.filter(method=method), metric, axis, settings)
                rows[-1] += [one.word, interval(one.tau.value, one.tau.low, one.tau.high), change_text(one.change)]
    heads = [
        f"{name}: {head}" for name in CONVENTIONS.values() for head in ("trend", "τ with size", "smallest to largest")
    ]
    return markdown(["along", "metric", *heads], rows)


def most_data(cells: pl.DataFrame) -> pl.DataFrame:
    """Where nothing is learned by heart."""
    return cells.filter(n_train_examples=cells["n_train_examples"].max())


def change_text(change: Interval | None) -> str:
    return "–" if change is None else percent(change.value, change.low, change.high)


_FROM_TO = {
    "rank": "From the smallest rank to the largest",
    "n_train_examples": "From the fewest training examples to the most",
    "n_params_total": "From the smallest model to the largest",
}


def trend_answer(
    cells: pl.DataFrame,
    metrics: Sequence[str],
    axes: Iterable[str] = AXES,
    settings: Sequence[str] = SETTINGS,
) -> str:
    """One line an axis and convention: how much each metric changes from the smallest size to the largest."""
    lines = []
    for axis in axes:
        for method, name in CONVENTIONS.items():
            found = [trend(cells.filter(method=method), metric, axis, settings) for metric in metrics]
            said = ", ".join(f"{label(one.metric)} {change_text(one.change)}" for one in found)
            lines.append(f"- {_FROM_TO[axis]}, scale {name}: {said}.")
    return "\n".join(lines)


def matched_table(cells: pl.DataFrame) -> str:
    """What is left of the trends where every adapter's u has the same norm beside z; beside the cells as they are."""
    rows = []
    for method, name in CONVENTIONS.items():
        for axis in AXES:
            for metric in ("miub_nats", "jsd_nats"):
                part = cells.filter(method=method)
                own, matched = (trend(part, column, axis) for column in (metric, f"matched_{metric}"))
                rows.append([name, AXES[axis], label(metric)])
                rows[-1] += [change_text(own.change), change_text(matched.change)]
    return markdown(["scale", "along", "metric", "as it is", "at equal norms"], rows)
