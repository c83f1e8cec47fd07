"""Question 2: does any metric follow the law better than cross-entropy and perplexity, and is it stabler over seeds?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl
from scipy.stats import false_discovery_control
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

    @property
    def ratio(self) -> float:
        return self.against["cross_entropy"].misfit_ratio.value


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
    """Which metrics are clearly closer to their own law than cross-entropy and perplexity are, and which further.

    Clearly: against both, the interval of the ratio is on one side of 1 and p < 0.05 after Benjamini and Hochberg's
    correction for all comparisons of this answer; and closer only where the metric has a trend at all.
    """
    every = list(judged(cells, axes))
    pairs = [(one, rival) for one in every for rival in OUTSIDE]
    corrected = false_discovery_control([one.against[rival].p_misfit for one, rival in pairs])
    ratios = [one.against[rival].misfit_ratio for one, rival in pairs]
    clear = {
        (id(one), rival): p < _CLEAR and not ratio.low <= 1 <= ratio.high
        for (one, rival), p, ratio in zip(pairs, corrected, ratios, strict=True)
    }
    lines = []
    for method, name in CONVENTIONS.items():
        for axis in axes:
            part = [one for one in every if (one.method, one.axis) == (method, axis)]
            beaten = [one for one in part if all(clear[id(one), rival] for rival in OUTSIDE)]
            closer = [one for one in beaten if one.ratio < 1 and one.scores[one.metric].p_trend < _CLEAR]
            further = [one for one in beaten if one.ratio > 1]
            lines.append(
                f"- Along {AXES[axis]}, scale {name}: cross-entropy {_trend(part[0].scores['cross_entropy'])}. Clearly "
                f"closer to their own law than cross-entropy and perplexity: {_names(closer)}; clearly further from "
                f"it: {_names(further)}."
            )
    return "\n".join(lines)


def _trend(score: MetricScores) -> str:
    falls = f"falls as a law would (p = {probability(score.p_trend)})"
    return falls if score.p_trend < _CLEAR else f"has no falling law (p = {probability(score.p_trend)})"


def _names(found: list[Judged]) -> str:
    said = (f"{label(one.metric)} ({'rising' if one.scores[one.metric].increasing else 'falling'})" for one in found)
    return ", ".join(said) or "none"
