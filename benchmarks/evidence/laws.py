"""Question 2: does any metric follow the law better than cross-entropy and perplexity, and is it stabler over seeds?"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl
from tables import AXES, CONTROLS, CONVENTIONS, ESTIMATORS, OUTSIDE, label, markdown, probability

from loralaw.laws import Comparison, MetricScores, judge

JUDGED_AXES = ("rank", "n_train_examples")
"""Those with four levels."""
_CLEAR = 0.05


@dataclass(frozen=True)
class Judged:
    """An internal metric along an axis under a convention, beside cross-entropy and perplexity on the same cells."""

    method: str
    axis: str
    scores: dict[str, MetricScores]
    metric: str
    against: dict[str, Comparison]


def judged(cells: pl.DataFrame, axes: Sequence[str] = JUDGED_AXES) -> Iterator[Judged]:
    metrics = [*OUTSIDE, *ESTIMATORS, *CONTROLS]
    for method in CONVENTIONS:
        part = cells.filter(method=method)
        for metric in (*ESTIMATORS, *CONTROLS):
            found = judge(part, metrics=metrics, axes=axes, reference=metric, rivals=OUTSIDE)
            for axis in axes:
                scores = {s.metric: s for s in found.scores if s.axis == axis}
                against = {c.second: c for c in found.comparisons if c.axis == axis}
                if metric in scores and set(against) == set(OUTSIDE):
                    yield Judged(method, axis, scores, metric, against)


def law_table(cells: pl.DataFrame) -> str:
    """Ratios below 1: the metric lies closer to its own law than its rival to its."""
    rows = []
    for one in judged(cells):
        own = one.scores[one.metric]
        row = [CONVENTIONS[one.method], AXES[one.axis], label(one.metric), probability(own.p_trend)]
        for rival in OUTSIDE:
            pair = one.against[rival]
            row += [
                f"{ratio.value:.2g} [{ratio.low:.2g}, {ratio.high:.2g}], p {probability(p)}"
                for ratio, p in ((pair.misfit_ratio, pair.p_misfit), (pair.held_out_ratio, pair.p_held_out))
            ]
        spreads = (own.seed_spread.value, one.scores["cross_entropy"].seed_spread.value)
        rows.append([*row, "{:.2f} ({:.2f})".format(*spreads)])
    heads = ["scale", "along", "metric", "p of a trend"]
    heads += [f"{what} over that of {label(rival)}" for rival in OUTSIDE for what in ("misfit", "held-out error")]
    return markdown([*heads, "spread of seeds (of cross-entropy)"], rows)


def law_answer(cells: pl.DataFrame, axes: Sequence[str] = JUDGED_AXES) -> str:
    """Which metrics are clearly closer to their own law than cross-entropy and perplexity are, and which further."""
    every = list(judged(cells, axes))
    lines = []
    for method, name in CONVENTIONS.items():
        for axis in axes:
            part = [one for one in every if (one.method, one.axis) == (method, axis)]
            closer = _names(part, lambda one: all(c.misfit_ratio.value < 1 for c in one.against.values()))
            further = _names(part, lambda one: all(c.misfit_ratio.value > 1 for c in one.against.values()))
            lines.append(
                f"- Along {AXES[axis]}, scale {name}: clearly closer to its own law than both: {closer}; clearly "
                f"further from it than both: {further}."
            )
    return "\n".join(lines)


def _names(part: list[Judged], side: Callable[[Judged], bool]) -> str:
    """Those on a side of both rivals, with p < 0.05 against each."""
    names = [label(one.metric) for one in part if side(one) and all(c.p_misfit < _CLEAR for c in one.against.values())]
    return ", ".join(names) or "none"
