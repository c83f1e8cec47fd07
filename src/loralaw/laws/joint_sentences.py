"""What a fit along several axes says to its user."""

from collections.abc import Callable

from loralaw.laws.joint_fit import JointFit
from loralaw.laws.law_fit import Status
from loralaw.laws.metrics import axis_named, metric_named
from loralaw.laws.numbers import three_digits
from loralaw.laws.sentences import form_sentence, left_out, parameter_said


def message_of(fit: JointFit) -> str:
    """The sentences that go with the status of a fit: what was seen, what to do, and what was not used."""
    return " ".join([_MESSAGES[fit.status](fit), *left_out(fit, " and ".join(map(_axis, fit.axes)))])


def _law(fit: JointFit) -> str:
    assert fit.law is not None
    form = fit.law.form
    limit = {"floor": "ceiling" if fit.increasing else "floor"}
    parameters = ", ".join(
        f"{_named(name, limit)} {parameter_said(fit.params[name], *fit.interval(name))}"
        for name in (*(("floor",) if form.has_floor else ()), *form.exponents)
    )
    along = ", ".join(f"{_axis(axis)} ({_p(fit, axis)})" for axis in form.axes)
    flat = [axis for axis in fit.axes if axis not in form.axes]
    without = f" No visible dependence on {_listed_with_p(fit, flat)}." if flat else ""
    forms = f" {form_sentence(fit.forms, limit['floor'])}" if fit.forms is not None else ""
    forms += " Predictions weigh these forms." if fit.law.others else ""
    sparse = (
        f" Only {fit.n_points} of {fit.n_combinations:,} combinations of the levels were run: with large noise the "
        "exponents are then known less well than their intervals say; a grid of fewer levels would tell more."
        if fit.is_sparse
        else ""
    )
    return (
        f"{_label(fit)} {'rises' if fit.increasing else 'falls'} with {along}: {parameters}.{without}{forms} This "
        f"holds for the seeds and settings that were run; the {limit['floor']} is that of this law over these "
        f"sizes, not the best possible value.{sparse}"
    )


def _named(name: str, limit: dict[str, str]) -> str:
    kind, _, axis = name.partition("_")
    return f"exponent of {axis_named(axis).label}" if axis and kind == "exponent" else limit.get(name, name)


def _weak_exponent(fit: JointFit) -> str:
    assert fit.law is not None
    weak = ", ".join(name.replace("exponent_", "that of ") for name in fit.law.weak_exponents())
    return (
        f"{_law(fit)} Not every exponent is known ({weak}): use the predictions inside the range, and no further than "
        "their interval says; cells at the two ends of the axis would help most."
    )


def _approximate(fit: JointFit) -> str:
    return (
        f"{_law(fit)} The law misses the points by {three_digits(fit.misfit)} typically, which is more than the noise "
        f"of the cells (p = {fit.p_misfit:.2g}): it is an approximation, and its intervals and predictions contain "
        "this."
    )


def _seeds_equal(fit: JointFit) -> str:
    return (
        f"{_law(fit)} Every seed gave the same values, so they were counted once: check that seeds reach the training."
    )


def _constant(fit: JointFit) -> str:
    return (
        f"No law: {_label(fit)} does not visibly depend on {_listed_with_p(fit, fit.axes)}. A small effect may hide in "
        "the noise: add seeds, or levels further apart, if it matters."
    )


def _bends(fit: JointFit) -> str:
    return (
        f"{_label(fit)} depends on {_listed_with_p(fit, fit.axes)}, but not by one law with a floor. Fit one axis at a "
        "time, or a shorter range."
    )


def _wrong_direction(fit: JointFit) -> str:
    way = "falls" if fit.increasing else "rises"
    against = [axis for axis in fit.axes if fit.p_trend[axis] <= 0.05]
    return (
        f"{_label(fit)} {way} along one of {_listed_with_p(fit, against)}, against the direction of a law of all axes. "
        "Fit one axis at a time to see which; look for overfitting, or a learning rate that does not suit the larger "
        "sizes."
    )


def _too_few_levels(fit: JointFit) -> str:
    few = [axis for axis in fit.axes if fit.ranges[axis][0] == fit.ranges[axis][1]] or list(fit.axes)
    return (
        f"A law along {', '.join(map(_axis, fit.axes))} needs three levels or more of each, run in the same settings; "
        f"look at {', '.join(map(_axis, few))}. Leave an axis with fewer out: its levels are then settings that are "
        "averaged over."
    )


def _too_few_cells(fit: JointFit) -> str:
    return (
        f"{fit.n_points} points are too few for a law along {', '.join(map(_axis, fit.axes))}: add levels, or fit "
        "fewer axes."
    )


def _listed_with_p(fit: JointFit, axes: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{_axis(axis)} ({_p(fit, axis)})" if axis in fit.p_trend else _axis(axis) for axis in axes)


def _p(fit: JointFit, axis: str) -> str:
    return f"permutation test p = {fit.p_trend[axis]:.2g}"


def _label(fit: JointFit) -> str:
    return metric_named(fit.metric).label


def _axis(name: str) -> str:
    return axis_named(name).label


_MESSAGES: dict[Status, Callable[[JointFit], str]] = {
    Status.LAW: _law,
    Status.WEAK_EXPONENT: _weak_exponent,
    Status.SEEDS_EQUAL: _seeds_equal,
    Status.APPROXIMATE: _approximate,
    Status.CONSTANT: _constant,
    Status.BENDS: _bends,
    Status.WRONG_DIRECTION: _wrong_direction,
    Status.TWO_LEVELS: _too_few_levels,
    Status.ONE_LEVEL: _too_few_levels,
    Status.TOO_FEW_CELLS: _too_few_cells,
}
