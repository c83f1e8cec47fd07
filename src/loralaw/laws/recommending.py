"""What to train next: the cheapest configuration that reaches a target, or the best one under a budget."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from loralaw.errors import TableError, did_you_mean
from loralaw.laws.configurations import Candidates, candidates, label_of
from loralaw.laws.costs import Costs, costs_of
from loralaw.laws.joint_fit import JointFit
from loralaw.laws.recommend_sentences import advice_sentences, what_it_rests_on

Floats = NDArray[np.float64]

_SECONDS = {"seconds": 1.0, "hours": 3600.0, "gpu_hours": 3600.0}
_BUDGETS = (*_SECONDS, "memory_gb", "money")


@dataclass(frozen=True)
class Option:
    """One configuration.

    Args:
        label: As a person says it.
        settings: The designed columns.
        value: The metric that is expected, the mean of the seeds that were run, with its 95 % interval.
        low: Its lower end.
        high: Its upper end.
        cost: In the unit of the budget (seconds if none is given); None where no costs are known.
        p_reaches: Probability that it reaches the target; None without one.
        is_measured: Whether it was run.
        is_extrapolated: Whether it lies beyond the levels that were run.
    """

    label: str
    settings: dict[str, object]
    value: float
    low: float
    high: float
    cost: float | None
    p_reaches: float | None
    is_measured: bool
    is_extrapolated: bool


@dataclass(frozen=True)
class Gain:
    """What doubling one axis of the chosen configuration would buy, as its law says.

    Args:
        axis: Column of the sizes.
        value: Improvement of the metric, positive is better, with its 95 % interval.
        low: Its lower end.
        high: Its upper end.
        is_visible: Whether the metric depends on the axis at all; if not, the three numbers are 0.
    """

    axis: str
    value: float
    low: float
    high: float
    is_visible: bool


@dataclass(frozen=True)
class Recommendation:
    """What `recommend` found.

    Args:
        metric: Column of the metric.
        best: The advice; None where nothing is known, affordable and good enough at once.
        runner_up: The next one.
        difference: By how much the runner-up is worse, with its 95 % interval; None without one.
        gains: Of doubling, by axis.
        sentences: The advice in words.
    """

    metric: str
    best: Option | None
    runner_up: Option | None
    difference: tuple[float, float, float] | None
    gains: list[Gain]
    sentences: list[str]


def recommend(
    table: pl.DataFrame,
    *,
    target: Mapping[str, float] | None = None,
    budget: Mapping[str, float] | None = None,
    price_per_hour: float | None = None,
    metric: str = "cross_entropy",
    larger_is_better: bool | None = None,
) -> Recommendation:
    """The cheapest configuration that is predicted to reach a target, or the best one under a budget.

    Candidates are all combinations of the levels that were run, and one doubling beyond the largest rank and number of
    examples. With target and budget: the cheapest that reaches the target, if the budget allows it.

    Args:
        table: A row a cell, as of a study: `base_model`, `method`, `rank`, `n_train_examples`, `n_params_total`,
            `seed`, the metric, and `train_seconds` or `peak_memory_bytes` for costs.
        target: One metric and the value to reach, such as {"cross_entropy": 1.9}.
        budget: Of one training: `seconds`, `hours`, `gpu_hours`, `memory_gb` or `money`.
        price_per_hour: For a budget of money.
        metric: What is to be as good as possible where no target names another.
        larger_is_better: The direction of the metric; if not given, the known one, and smaller for one that is not
            known.

    Raises:
        TableError: As for `fit`; the metric is a setting; a target or budget that is not understood; a target or a
            budget, but no costs.

    **Source**: ours.
    """
    metric, reach = _target(target, metric)
    found = candidates(table, metric, larger_is_better=larger_is_better)
    costs, limit = _costs(found.rows, table, budget, price_per_hour)
    if reach is not None and np.isnan(costs.values).all():
        raise TableError(
            "a target asks for the cheapest configuration, and the table has no costs: add a column train_seconds, or "
            "give no target"
        )
    options = _Options(found, costs, reach)
    ranked = options.ranked(limit)
    best, second = (*ranked[:2], None, None)[:2]
    chosen = Recommendation(
        metric=metric,
        best=None if best is None else options.at(best),
        runner_up=None if second is None else options.at(second),
        difference=None if best is None or second is None else options.difference(best, second),
        gains=[] if best is None else options.gains(best),
        sentences=[],
    )
    said = advice_sentences(chosen, reach, budget, options.nearest(limit), costs.relative_error)
    return replace(chosen, sentences=[*said, *what_it_rests_on(found, metric, larger_is_better)])


_QUANTILES = [0.025, 0.5, 0.975]


class _Options:
    """The candidates, and how good and how dear they are.

    Args:
        found: The candidates.
        costs: Of each.
        reach: The target, if there is one.
    """

    def __init__(self, found: Candidates, costs: Costs, reach: float | None) -> None:
        self._rows, self._fits, self._costs, self._reach = found.rows, found.fits, costs, reach
        self._sign = 1.0 if found.increasing else -1.0
        self._draws = found.draws
        self._known: NDArray[np.bool_] = np.asarray(np.isfinite(found.draws).all(axis=0))
        self._ends = np.full((3, len(self._known)), np.nan)
        self._ends[:, self._known] = np.quantile(found.draws[:, self._known], _QUANTILES, axis=0)
        self._score = self._sign * self._ends[1]
        self._p_reaches = np.full(len(self._known), np.nan)
        if reach is not None:
            reaches = self._sign * self._draws[:, self._known] >= self._sign * reach
            self._p_reaches[self._known] = reaches.mean(axis=0)

    def ranked(self, limit: float | None) -> list[int]:
        """Best first: the cheapest of those that reach the target more likely than not, or, without one, the best.

        What was not run comes first only where it is told apart from the best that was.
        """
        allowed = self._affordable(limit) & ((self._p_reaches >= 0.5) | (self._reach is None))
        dearness = np.zeros_like(self._score) if self._reach is None else self._costs.values
        order = [int(number) for number in np.lexsort((-self._score, dearness)) if allowed[number]]
        run = next((number for number in order if self._rows["is_measured"][number]), None)
        if self._reach is None and run is not None and run != order[0] and self.difference(order[0], run)[1] <= 0:
            order.remove(run)
            order.insert(0, run)
        return order

    def nearest(self, limit: float | None) -> Option | None:
        """The best of those that can be afforded, whether it reaches the target or not."""
        affordable = np.flatnonzero(self._affordable(limit))
        return self.at(int(affordable[np.argmax(self._score[affordable])])) if affordable.size else None

    def difference(self, one: int, other: int) -> tuple[float, float, float]:
        """By how much the first is better: median and ends."""
        low, middle, high = np.quantile(self._sign * (self._draws[:, one] - self._draws[:, other]), _QUANTILES)
        return float(middle), float(low), float(high)

    def gains(self, best: int) -> list[Gain]:
        """Of doubling every axis of the law that tells of the configuration."""
        row = self._rows.row(best, named=True)
        if row["law"] is None:
            return []
        found = self._fits[int(row["law"])]
        law, asked = found.law, found.axes if isinstance(found, JointFit) else (found.axis,)
        assert law is not None
        sizes = np.array([float(row[axis]) for axis in law.form.axes])
        curves = law.curves(np.vstack([sizes, sizes * (1 + np.eye(len(sizes)))]))
        gains = self._sign * (curves[:, 1:] - curves[:, :1])
        ends = dict(zip(law.form.axes, np.quantile(gains, _QUANTILES, axis=0).T.tolist(), strict=True))
        return [
            Gain(axis, middle, low, high, axis in ends)
            for axis in asked
            for low, middle, high in [ends.get(axis, (0.0, 0.0, 0.0))]
        ]

    def at(self, number: int) -> Option:
        """One of them."""
        row = self._rows.row(number, named=True)
        low, value, high = map(float, self._ends[:, number])
        cost = float(self._costs.values[number])
        return Option(
            label=label_of(row),
            settings={name: value for name, value in row.items() if not name.startswith("is_")},
            value=value,
            low=low,
            high=high,
            cost=None if np.isnan(cost) else cost,
            p_reaches=None if self._reach is None else float(self._p_reaches[number]),
            is_measured=bool(row["is_measured"]),
            is_extrapolated=bool(row["is_extrapolated"]),
        )

    def _affordable(self, limit: float | None) -> NDArray[np.bool_]:
        return self._known if limit is None else np.asarray(self._known & (self._costs.values <= limit))


def _target(target: Mapping[str, float] | None, metric: str) -> tuple[str, float | None]:
    if target is None:
        return metric, None
    if len(target) != 1:
        raise TableError(f"the target is {dict(target)!r}: give one metric and the value to reach")
    ((name, value),) = target.items()
    if not np.isfinite(value):
        raise TableError(f"the target of {name} is {value}: give a finite number")
    return name, float(value)


def _costs(
    rows: pl.DataFrame, table: pl.DataFrame, budget: Mapping[str, float] | None, price_per_hour: float | None
) -> tuple[Costs, float | None]:
    """Costs in the unit of the budget, and its limit. Without a budget: seconds, where the table has them."""
    if budget is None:
        if "train_seconds" in table.columns and (table["train_seconds"].fill_null(0) > 0).any():
            return costs_of(rows, table, "train_seconds"), None
        return Costs(np.full(rows.height, np.nan), float("nan")), None
    if len(budget) != 1 or next(iter(budget)) not in _BUDGETS:
        unknown = next((name for name in budget if name not in _BUDGETS), "")
        hint = did_you_mean(unknown, _BUDGETS) if unknown else ""
        raise TableError(f"the budget is {dict(budget)!r}: give one of {', '.join(_BUDGETS)} with its number.{hint}")
    ((unit, limit),) = budget.items()
    if not (np.isfinite(limit) and limit > 0):
        raise TableError(f"the budget is {limit} {unit}: give a number above 0")
    if unit == "memory_gb":
        of_memory = costs_of(rows, table, "peak_memory_bytes")
        return Costs(of_memory.values / 1e9, of_memory.relative_error), limit
    if unit == "money" and not (price_per_hour and price_per_hour > 0):
        raise TableError("a budget of money needs a price_per_hour above 0")
    seconds = costs_of(rows, table, "train_seconds")
    per_unit = 3600.0 / price_per_hour if unit == "money" and price_per_hour else _SECONDS[unit]
    return Costs(seconds.values / per_unit, seconds.relative_error), limit
