"""Which cells to run next: those that tell most about a question, for what they cost."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtri

from loralaw.errors import TableError
from loralaw.laws.configurations import Candidates, candidates, label_of
from loralaw.laws.costs import costs_of
from loralaw.laws.joint_fit import JointFit
from loralaw.laws.law import Law
from loralaw.laws.ranks import ranks
from loralaw.laws.recommend_sentences import what_it_rests_on

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NextCells:
    """What `design` found.

    Args:
        labels: The cells to run, in the order in which they tell most for their cost; one that comes twice is to be run
            with two seeds more.
        settings: Their designed columns.
        costs: Of each, in the unit of the cost column; 1 where no costs are known.
        question: The configuration at which they are to tell the law.
        width: Of the 95 % interval of the law there, now. That of the metric is wider where single configurations stand
            apart from the law; only cells at the configuration itself tell of that.
        expected_width: The same with the cells, if the law holds.
        notes: What it rests on, in words.
    """

    labels: list[str]
    settings: list[dict[str, object]]
    costs: list[float]
    question: str
    width: float
    expected_width: float
    notes: list[str]


def design(
    table: pl.DataFrame,
    k: int | None = None,
    *,
    budget: float | None = None,
    metric: str = "cross_entropy",
    cost: str | None = "train_seconds",
    larger_is_better: bool | None = None,
) -> NextCells:
    """The next cells that narrow the metric's interval most at the best configuration, for what they cost.

    Candidates are those of `recommend`: every combination of levels, and a doubling beyond; one that was run can be run
    again with another seed.

    Args:
        table: As for `recommend`.
        k: How many at most.
        budget: What they may cost together, in the unit of the cost column; if not given, as much as k candidates of
            average cost.
        metric: Column of the metric.
        cost: Column of the costs; None if all cells cost the same.
        larger_is_better: As for `recommend`.

    Raises:
        TableError: As for `recommend`; neither k nor a budget, or one that is not above 0; a budget that buys no cell;
            or there is no law that could tell of cells that were not run.

    **Source**: ours: the posterior of question and candidate curves taken as jointly normal, the question by its normal
    scores. Measured: `benchmarks/results/advice.md`.
    """
    if (k is None and budget is None) or (k is not None and k < 1) or not (budget is None or 0 < budget < np.inf):
        raise TableError(
            f"k is {k} and the budget {budget}: give the number of cells to run next, at least 1, or what they may "
            "cost together, above 0"
        )
    found = candidates(table, metric, larger_is_better=larger_is_better)
    question = _question(found)
    rows = found.rows.with_row_index("number").filter(pl.col("law") == found.rows["law"][question])
    fitted = found.fits[int(found.rows["law"][question])]
    law, once = fitted.law, isinstance(fitted, JointFit) and fitted.misfit > 0
    assert law is not None
    curves = law.curves(rows.select(pl.col(law.form.axes).cast(pl.Float64)).to_numpy())
    asked = curves[:, int((rows["number"] == question).arg_max() or 0)]
    prices = np.ones(rows.height) if cost is None else costs_of(rows, table, cost).values
    budget = budget or float(prices.mean()) * (k or 1)
    picked, narrower = next_cells(law, asked, curves, prices, k, budget, once=once)
    if not picked:
        raise TableError(f"the budget of {budget:g} buys no cell: the cheapest costs {prices.min():.3g}")
    low, high = np.quantile(asked, [0.025, 0.975])
    chosen = [rows.row(number, named=True) for number in picked]
    return NextCells(
        labels=[label_of(row) for row in chosen],
        settings=[{name: row[name] for name in rows.columns if name not in _ABOUT} for row in chosen],
        costs=[float(prices[number]) for number in picked],
        question=label_of(found.rows.row(question, named=True)),
        width=float(high - low),
        expected_width=float(high - low) * narrower,
        notes=what_it_rests_on(found, metric, larger_is_better),
    )


_POWERS_OF_COST = (1.0, 0.75, 0.5, 0.25, 0.0)
_ABOUT = ("number", "law", "is_measured", "is_extrapolated")


def _question(found: Candidates) -> int:
    """The best configuration of which a law tells."""
    told = found.rows["law"].is_not_null().to_numpy()
    if not told.any():
        raise TableError("there is no law that could tell of cells that were not run: add levels to an axis first")
    middle = np.median(found.draws, axis=0)
    score = np.where(told & np.isfinite(middle), middle if found.increasing else -middle, -np.inf)
    return int(np.argmax(score))


def next_cells(
    law: Law, asked: Floats, curves: Floats, costs: Floats, k: int | None, budget: float, *, once: bool = False
) -> tuple[list[int], float]:
    """Choose candidates, one after the other, by expected information for a power of their cost.

    Powers from 1 (information for the cost) to 0 (information alone) each give a plan; the one that is expected to
    leave the narrowest interval is taken.

    Args:
        law: Whose noise the cells will have.
        asked: (n_draws,) of the quantity that is to be known.
        curves: (n_draws, n) of the candidates.
        costs: (n,) of a cell of each.
        k: How many at most; None for as many as the budget buys.
        budget: What they may cost together.
        once: Whether a second cell of a candidate tells nothing new: a law's misfit at a point stays.

    Returns:
        Numbers of the candidates, and the expected width of the interval over that of now.
    """
    score = ndtri((ranks(asked) - 0.5) / len(asked))
    covariance = np.cov(np.column_stack([score, curves]).T)
    noise = float(np.median(law.draws.sigma)) ** 2
    plans = [_plan(covariance, noise, costs, k, budget, power, once=once) for power in _POWERS_OF_COST]
    narrower, picked = min(plans)
    return picked, narrower


def _plan(
    covariance: Floats, noise: float, costs: Floats, k: int | None, budget: float, power: float, *, once: bool
) -> tuple[float, list[int]]:
    """Expected width over that of now, and the cells, of the question (row 0) and the candidates (the other rows)."""
    now, left, picked = covariance.copy(), budget * (1 + 1e-9), list[int]()
    while k is None or len(picked) < k:
        allowed = costs <= left
        if once:
            allowed[picked] = False
        if not allowed.any():
            break
        share = now[0, 1:] ** 2 / (now[0, 0] * (np.diag(now)[1:] + noise))
        information = -np.log1p(-np.minimum(share, 1 - 1e-9))
        best = int(np.argmax(np.where(allowed, information / costs**power, -1.0)))
        picked.append(best)
        left -= costs[best]
        row = now[:, best + 1]
        now = now - np.outer(row, row) / (row[best + 1] + noise)
    return float(np.sqrt(max(now[0, 0], 0.0) / covariance[0, 0])), picked
