"""Folk rules against measurements: does a rule of thumb hold in this study, does it fail, or can the study not tell?"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import stdtrit

from loralaw.errors import TableError, did_you_mean
from loralaw.laws.cells import check_number_columns
from loralaw.laws.contexts import DESIGN
from loralaw.laws.fitting import finished_rows, fit
from loralaw.laws.metrics import metric_named
from loralaw.laws.numbers import three_digits, with_interval

Floats = NDArray[np.float64]
Verdict = Literal["holds", "fails", "cannot tell"]

TOLERANCE = 0.01
"""Of the metric: less than this is no loss that anyone would mind."""
_WITH_LORA_ALPHA = ("lora", "rslora", "dora", "alpha-lora")
_DEFAULT_LORA_ALPHA = 16.0  # of a study's methods, which do not show it in their labels
_ALPHA = re.compile(r"lora_alpha=(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Rule:
    """A rule of thumb: what it says a column should be, given the other settings.

    Args:
        name: How it is asked for.
        text: How people say it.
        column: What it speaks of.
        given: The column that it looks at.
        says: Its value for a value of `given`.
    """

    name: str
    text: str
    column: str
    given: str
    says: Callable[[float], float]


def _rank_by_examples(n_examples: float) -> float:
    for limit, rank in ((1_000, 8), (10_000, 16), (100_000, 32)):
        if n_examples < limit:
            return rank
    return 64


RULES = {
    rule.name: rule
    for rule in (
        Rule(
            "rank-by-examples",
            "under 1,000 examples rank 8, under 10,000 rank 16, under 100,000 rank 32, else 64",
            "rank",
            "n_train_examples",
            _rank_by_examples,
        ),
        Rule("rank-16", "rank 16 is enough", "rank", "n_train_examples", lambda _: 16),
        Rule("alpha-2r", "lora_alpha is twice the rank", "lora_alpha", "rank", lambda rank: 2 * rank),
    )
}


@dataclass(frozen=True)
class Finding:
    """A rule at one value of what it looks at.

    Args:
        given: That value.
        says: What the rule says there.
        verdict: "holds" where following it loses less than the tolerance for certain, "fails" where it loses more.
        loss: By how much the metric is worse than with the best value measured, and its 95 % interval; None where that
            is not known.
        sentence: What was found.
    """

    given: float
    says: float
    verdict: Verdict
    loss: tuple[float, float, float] | None
    sentence: str


@dataclass(frozen=True)
class RuleCheck:
    """What `check_rule` found.

    Args:
        rule: The rule.
        verdict: "fails" if it fails anywhere, "holds" if it holds everywhere, else "cannot tell".
        findings: By the value of what it looks at.
        n_left_out: Rows that did not finish, or lack a number.
    """

    rule: Rule
    verdict: Verdict
    findings: list[Finding]
    n_left_out: int


def check_rule(
    table: pl.DataFrame,
    rule: str,
    *,
    metric: str = "cross_entropy",
    tolerance: float = TOLERANCE,
    larger_is_better: bool | None = None,
) -> RuleCheck:
    """Hold a folk rule against measured cells.

    Where the value that the rule names was run, its cells are compared with those of every other value, seed by seed
    and setting by setting, at a level that allows for as many comparisons; where it was not, the law along the column
    tells, if there is one.

    Args:
        table: As for `fit`, of a study.
        rule: One of `RULES`.
        metric: Column of the metric.
        tolerance: Share of the metric that is no loss.
        larger_is_better: As for `recommend`.

    Raises:
        TableError: There is no such rule or column, or the table has no finished row.

    **Source**: the rules are folklore; the test is ours (equivalence by interval).
    """
    if rule not in RULES:
        raise TableError(f'there is no rule "{rule}"; known: {", ".join(RULES)}.{did_you_mean(rule, RULES)}')
    if not tolerance >= 0:
        raise TableError(f"the tolerance is {tolerance}: give a share of the metric, 0 or more")
    asked, rows = RULES[rule], _with_lora_alpha(finished_rows(table))
    check_number_columns(rows, [metric], [asked.column, asked.given])
    rows = rows.filter(
        pl.all_horizontal(pl.col(name).cast(pl.Float64).is_finite() for name in (metric, asked.column, asked.given))
    )
    if not rows.height:
        raise TableError(f"no finished row has {metric}, {asked.column} and {asked.given}")
    better = metric_named(metric).increasing if larger_is_better is None else larger_is_better
    findings = [
        _finding(asked, float(given), rows.filter(pl.col(asked.given) == given), metric, tolerance, bool(better))
        for given in rows[asked.given].unique().sort()
    ]
    verdicts = {finding.verdict for finding in findings}
    verdict: Verdict = "fails" if "fails" in verdicts else "holds" if verdicts == {"holds"} else "cannot tell"
    return RuleCheck(asked, verdict, findings, table.height - rows.height)


def _with_lora_alpha(rows: pl.DataFrame) -> pl.DataFrame:
    """PEFT's constant out of the labels that a study gives to methods, which are then those without it."""
    if "method" not in rows.columns or rows.schema["method"] != pl.String or "lora_alpha" in rows.columns:
        return rows
    labels = rows["method"].drop_nulls().unique().to_list()
    alphas = {label: _alpha_of(label) for label in labels}
    if not any(alphas.values()):
        return rows
    plain = {label: re.sub(r"\(\)", "", re.sub(r"lora_alpha=[\d.]+(, )?", "", label)) for label in labels}
    return rows.with_columns(
        lora_alpha=pl.col("method").replace_strict(alphas, default=None, return_dtype=pl.Float64),
        method=pl.col("method").replace_strict(plain, default=None, return_dtype=pl.String),
    )


def _alpha_of(label: str) -> float | None:
    """None of a method that is none of ours with an adapter."""
    if label.partition("(")[0] not in _WITH_LORA_ALPHA:
        return None
    found = _ALPHA.search(label)
    return float(found[1]) if found else _DEFAULT_LORA_ALPHA


def _finding(
    rule: Rule, given: float, rows: pl.DataFrame, metric: str, tolerance: float, larger_is_better: bool
) -> Finding:
    says, levels = rule.says(given), rows[rule.column].unique().sort().to_list()
    limit = tolerance * abs(float(rows[metric].cast(pl.Float64).to_numpy().mean()))
    where = f"{_given(rule, given)}, {rule.column} {says:g}"
    loss, run = None, ", ".join(f"{level:g}" for level in levels)
    if len(levels) > 1:
        of = _measured_loss if says in levels else _loss_by_law
        loss = of(rule, says, rows, metric, -1.0 if larger_is_better else 1.0)
    if loss is None:
        why = "too few cells to compare" if says in levels else "it was not run, and no law tells of it"
        return Finding(given, says, "cannot tell", None, f"{where}: cannot tell; {why} (run: {run})")
    middle, low, high = loss
    verdict: Verdict = "holds" if high <= limit else "fails" if low > limit else "cannot tell"
    unit = f" {metric_named(metric).unit}".rstrip()
    ends = (middle, low, high) if middle >= 0 else (-middle, -high, -low)
    source = "" if says in levels else f", by the law of what was run ({run})"
    sentence = (
        f"{where}: {verdict}; {with_interval(*ends)}{unit} {'worse' if middle >= 0 else 'better'} than the best other "
        f"value{source}; up to {three_digits(limit)} worse counts as no loss"
    )
    return Finding(given, says, verdict, loss, sentence)


def _given(rule: Rule, value: float) -> str:
    """`480 examples`, `rank 4`."""
    return f"{value:,g} examples" if rule.given == "n_train_examples" else f"{rule.given} {value:g}"


def _measured_loss(
    rule: Rule, says: float, rows: pl.DataFrame, metric: str, sign: float
) -> tuple[float, float, float] | None:
    """Against the best other value, each pair from the same settings and seed; pairs that are copies count once."""
    keys = [name for name in (*DESIGN, "lora_alpha", "seed") if name in rows.columns and name != rule.column]
    means = (
        rows.sort(*keys, rule.column, metric)
        .group_by(*keys, rule.column, maintain_order=True)
        .agg((sign * pl.col(metric)).mean().alias("badness"))
    )
    ours = means.filter(pl.col(rule.column) == says).rename({"badness": "ours"}).drop(rule.column)
    pairs = means.filter(pl.col(rule.column) != says).join(ours, on=keys, nulls_equal=True, maintain_order="left")
    others = (
        pairs.with_columns(loss=pl.col("ours") - pl.col("badness"))
        .group_by(rule.column, maintain_order=True)
        .agg("loss")
    )
    losses = [np.array(each) for each in others["loss"].to_list() if len(set(each)) > 1]
    if not losses:
        return None
    return max((_t_interval(each, len(losses)) for each in losses), key=lambda interval: interval[0])


def _t_interval(values: Floats, n_comparisons: int) -> tuple[float, float, float]:
    """Mean and ends, 95 % for all comparisons together."""
    half = stdtrit(len(values) - 1, 1 - 0.025 / n_comparisons) * values.std(ddof=1) / np.sqrt(len(values))
    middle = float(values.mean())
    return middle, middle - float(half), middle + float(half)


def _loss_by_law(
    rule: Rule, says: float, rows: pl.DataFrame, metric: str, sign: float
) -> tuple[float, float, float] | None:
    """Of the law along the column, between what the rule says and the best value that was run."""
    found = fit(rows, metric=metric, axis=rule.column)
    if found.law is None or not found.levels[0] <= says <= found.levels[-1]:
        return None
    curves = sign * found.law.curves(np.array([says, *found.levels])[:, None])
    low, middle, high = np.quantile(curves[:, 0] - curves[:, 1:].min(axis=1), [0.025, 0.5, 0.975])
    return float(middle), float(low), float(high)
