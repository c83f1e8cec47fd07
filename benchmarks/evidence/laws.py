"""Question 2: does any metric follow the law better than cross-entropy and perplexity, and is it stabler over seeds?"""

import polars as pl
from tables import AXES, CONTROLS, CONVENTIONS, ESTIMATORS, OUTSIDE, interval, label, markdown, probability

from loralaw.laws import Judgement, judge

JUDGED_AXES = ("rank", "n_train_examples")
"""Those with four levels."""


def judgements(cells: pl.DataFrame, method: str) -> dict[str, Judgement]:
    """Every internal metric against cross-entropy and perplexity, on the same cells."""
    metrics = [*OUTSIDE, *ESTIMATORS, *CONTROLS]
    part = cells.filter(method=method)
    return {
        metric: judge(part, metrics=metrics, axes=JUDGED_AXES, reference=metric, rivals=OUTSIDE)
        for metric in (*ESTIMATORS, *CONTROLS)
    }


def law_table(cells: pl.DataFrame) -> str:
    """Ratios below 1: the metric lies closer to its own law than its rival to its."""
    rows = []
    for method, name in CONVENTIONS.items():
        for metric, judged in judgements(cells, method).items():
            for axis in JUDGED_AXES:
                pairs = {c.second: c for c in judged.comparisons if c.axis == axis}
                scores = {s.metric: s for s in judged.scores if s.axis == axis}
                if metric not in scores:
                    continue
                row = [name, AXES[axis], label(metric), probability(scores[metric].p_trend)]
                for rival in OUTSIDE:
                    pair = pairs.get(rival)
                    if pair is None:
                        row += ["–", "–"]
                        continue
                    ratio = pair.misfit_ratio
                    row += [interval(ratio.value, ratio.low, ratio.high), probability(pair.p_misfit)]
                row.append(f"{scores[metric].seed_spread.value:.2f} ({scores['cross_entropy'].seed_spread.value:.2f})")
                rows.append(row)
    heads = ["scale", "along", "metric", "p of a trend"]
    heads += [word for rival in OUTSIDE for word in (f"misfit over that of {label(rival)}", "p")]
    return markdown([*heads, "spread of seeds (of cross-entropy)"], rows)
