"""Fit one law of several axes to a table of cells."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from loralaw.laws.cells import Cells, read_cells
from loralaw.laws.estimate import mean_estimate
from loralaw.laws.form_choice import UNDECIDED, FormChoice, can_carry, choose_form
from loralaw.laws.forms import JOINT, Form
from loralaw.laws.joint_fit import JointFit
from loralaw.laws.joint_sentences import message_of
from loralaw.laws.law import Law
from loralaw.laws.law_fit import Status
from loralaw.laws.linear_model import Floats, Ints
from loralaw.laws.metrics import metric_named
from loralaw.laws.misfit import LARGEST_P_OF_A_MISFIT, misfit_test
from loralaw.laws.trend import Trend, trend_test

LARGEST_P_OF_A_LAW = 0.05


def fit_joint(table: pl.DataFrame, metric: str, axes: Sequence[str]) -> JointFit:
    """As `fit` says, of several axes."""
    known = metric_named(metric)
    cells = read_cells(table, metric, axes)
    sizes = cells.points()[0]
    levels = [len(np.unique(size)) for size in sizes.T]
    found = JointFit(
        metric=metric,
        axes=tuple(axes),
        status=Status.LAW,
        message="",
        ranges={axis: (float(size.min()), float(size.max())) for axis, size in zip(axes, sizes.T, strict=True)},
        increasing=known.increasing,
        p_trend={},
        p_misfit=float("nan"),
        law=None,
        forms=None,
        misfit=0.0,
        constant=None,
        n_points=len(np.unique(sizes, axis=0)),
        n_combinations=int(np.prod(levels)),
        n_cells=len(cells.value),
        n_excluded=cells.n_excluded,
        n_without_size=cells.n_without_size,
        n_contexts=cells.n_contexts,
        n_contexts_left_out=cells.n_contexts_left_out,
        n_repeats=cells.n_repeats,
    )
    if min(levels) < 3:
        found = replace(found, status=Status.ONE_LEVEL if min(levels) == 1 else Status.TWO_LEVELS)
    elif not can_carry(Form("separable", tuple(axes)), sizes):
        found = replace(found, status=Status.TOO_FEW_CELLS)
    else:
        found = _with_trends(found, cells, known.increasing)
    return replace(found, message=message_of(found))


def _with_trends(found: JointFit, cells: Cells, expected_increasing: bool | None) -> JointFit:
    """Along which axes there is a law at all, and in which direction."""
    rng = np.random.default_rng(0)  # the same table always gives the same intervals
    trends = {
        axis: trend_test(cells.sizes[:, number], cells.value, cells.blocks(number), rng)
        for number, axis in enumerate(found.axes)
    }
    increasing = _strongest(list(trends.values())).increasing if expected_increasing is None else expected_increasing
    found = replace(found, p_trend={axis: trend.p(expected_increasing) for axis, trend in trends.items()})
    _, value, _ = cells.points()
    if np.ptp(value) == 0:
        return replace(found, status=Status.CONSTANT, constant=mean_estimate(value))
    against = [
        axis for axis, trend in trends.items() if trend.p(increasing) > LARGEST_P_OF_A_LAW >= trend.p(not increasing)
    ]
    if against:
        found = replace(found, p_trend=found.p_trend | {axis: trends[axis].p(not increasing) for axis in against})
        return replace(found, status=Status.WRONG_DIRECTION, increasing=increasing)
    along = tuple(axis for axis, p in found.p_trend.items() if p <= LARGEST_P_OF_A_LAW)
    if not along:
        return replace(found, status=Status.CONSTANT, constant=mean_estimate(value))
    return _with_law(replace(found, increasing=increasing), cells, along, increasing)


def _with_law(found: JointFit, cells: Cells, along: tuple[str, ...], increasing: bool) -> JointFit:
    """The law of the axes on which the metric depends; where it misses points by more than noise, that is noise too."""
    sizes, value, seed = cells.points()
    sizes = sizes[:, [found.axes.index(axis) for axis in along]]
    choice = _choice(along, sizes, value, seed, increasing)
    if choice is None:
        return replace(found, status=Status.BENDS)
    p_misfit = misfit_test(choice.draws, sizes, value, seed)
    status, misfit = Status.SEEDS_EQUAL if cells.seeds_equal else Status.LAW, 0.0
    if p_misfit < LARGEST_P_OF_A_MISFIT:
        places, number = np.unique(sizes, axis=0, return_inverse=True)
        means = np.bincount(number.ravel(), value) / np.bincount(number.ravel())
        choice = _choice(along, places, means, np.zeros(len(means), dtype=np.int64), increasing)
        if choice is None:  # not even one point is to spare
            return replace(found, status=Status.BENDS, p_misfit=p_misfit)
        status, misfit = Status.APPROXIMATE, float(np.median(choice.draws.sigma))
    others = [(other, choice.weights[other.form.name]) for other in choice.others if choice.name == UNDECIDED]
    law = Law(choice.draws, increasing, metric_named(found.metric).bound_of(value), tuple(others))
    if status is Status.LAW and law.weak_exponents():
        status = Status.WEAK_EXPONENT
    forms = choice if len(along) > 1 else None
    return replace(found, status=status, law=law, forms=forms, misfit=misfit, p_misfit=p_misfit)


def _choice(along: tuple[str, ...], sizes: Floats, value: Floats, seed: Ints, increasing: bool) -> FormChoice | None:
    forms = [Form(name, along) for name in JOINT] if len(along) > 1 else [Form("power+floor", along)]
    return choose_form(forms, forms[0], sizes, value, seed, increasing=increasing)


def _strongest(trends: Sequence[Trend]) -> Trend:
    return min(trends, key=lambda trend: trend.p_either)
