"""What a fit says to its user: the message of its status, and one plain sentence."""

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from loralaw.laws.form_choice import UNDECIDED, FormChoice
from loralaw.laws.law_fit import LawFit, Status
from loralaw.laws.metrics import axis_named, metric_named
from loralaw.laws.numbers import rows_were, three_digits, with_interval

_FORMS = {
    "power": "a power law without {limit}",
    "power+floor": "a power law with a {limit}",
    "saturating": "a power law that is flat from a size on",
    "separable": "a sum of a term an axis",
    "multiplicative": "one product of all axes",
}


def describe(fit: LawFit) -> str:
    """One plain sentence: which way the metric goes, from where to where, and what one more doubling buys.

    Args:
        fit: What `fit` returned.

    **Source**: ours.
    """
    first, last = fit.levels[0], fit.levels[-1]
    label, axis, unit = metric_named(fit.metric).label, axis_named(fit.axis).label, _unit(fit)
    if fit.has_law:
        low, high = fit.predict_interval([first, last])
        start, end = (
            f"{with_interval(middle, low[i], high[i])} at {_size(fit, size)}"
            for i, (middle, size) in enumerate(zip(fit.predict([first, last]), (first, last), strict=True))
        )
        gain = with_interval(*fit.gain_of_doubling(last))
        weak = "; how steeply is not known" if fit.status is Status.WEAK_EXPONENT else ""
        return (
            f"{label} {_verb(fit)} with {axis}: {start} to {end} ({_settings(fit)}); "
            f"one more doubling at {_size(fit, last)} buys {gain}{unit}{weak}"
        )
    if fit.constant is not None:
        mean = with_interval(fit.constant.value, *fit.constant.interval())
        return (
            f"no law of {label} along {axis}: {mean}{unit} from {_size(fit, first)} to {_size(fit, last)} "
            f"({_settings(fit)}), and shuffled cells do about as well ({_p(fit)})"
        )
    if fit.status is Status.ONE_LEVEL:
        return f"no law of {label} along {axis}: only {_size(fit, first)} was run"
    return f"{label} {_seen(fit)} ({_settings(fit)}); {_WHY_NO_LAW[fit.status]}"


def message_of(fit: LawFit) -> str:
    """The sentences that go with the status of a fit: what was seen, what to do, and what was not used."""
    return " ".join([_MESSAGES[fit.status](fit), *left_out(fit, _axis(fit))])


def _size(fit: LawFit, value: float) -> str:
    """`rank 64` as `64`, sizes from a million on as `6.31 M parameters`."""
    unit = axis_named(fit.axis).unit
    for limit, letter in ((1e9, " B"), (1e6, " M")):
        if value >= limit:
            number = three_digits(value / limit) + letter
            break
    else:
        number = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
    return f"{number} {unit}".rstrip()


def _unit(fit: LawFit) -> str:
    unit = metric_named(fit.metric).unit
    return f" {unit}" if unit else ""


def _verb(fit: LawFit) -> str:
    return "rises" if fit.increasing else "falls"


def _settings(fit: LawFit) -> str:
    cells = f"{fit.n_cells:,} cells" if fit.n_cells != 1 else "1 cell"
    return f"mean of {fit.n_contexts:,} settings, {cells}" if fit.n_contexts > 1 else f"1 setting, {cells}"


def _seen(fit: LawFit) -> str:
    """From where to where, as measured, with the interval of the change."""
    assert fit.change is not None
    change = with_interval(fit.change.value, *fit.change.interval())
    return (
        f"goes from {three_digits(fit.means[0])} at {_size(fit, fit.levels[0])} to {three_digits(fit.means[-1])} "
        f"at {_size(fit, fit.levels[-1])}, a change of {change}{_unit(fit)}"
    )


def _extreme(fit: LawFit) -> str:
    """The level with the best mean, or the lowest where no direction is asserted."""
    best = int(np.argmax(fit.means) if metric_named(fit.metric).increasing else np.argmin(fit.means))
    word = "highest" if metric_named(fit.metric).increasing else "lowest"
    return f"{word} {three_digits(fit.means[best])} at {_size(fit, fit.levels[best])}"


class Selection(Protocol):
    """Of the rows of a table, those that a fit used and those that it did not."""

    @property
    def n_excluded(self) -> int: ...
    @property
    def n_without_size(self) -> int: ...
    @property
    def n_contexts(self) -> int: ...
    @property
    def n_contexts_left_out(self) -> int: ...
    @property
    def n_repeats(self) -> int: ...


def left_out(fit: Selection, axes: str) -> list[str]:
    """What was not used, and why; and what was used though it comes twice."""
    sentences = []
    if fit.n_contexts_left_out:
        sentences.append(
            f"Used: {fit.n_contexts:,} of {fit.n_contexts + fit.n_contexts_left_out:,} settings of the other axes, "
            "those run at the same levels and seeds; the others cannot be compared along this axis."
        )
    if n_without_number := fit.n_excluded - fit.n_without_size:
        sentences.append(f"{rows_were(n_without_number)} left out: not finished, or without a number.")
    if fit.n_without_size:
        sentences.append(f"{rows_were(fit.n_without_size)} left out: no {axes}.")
    if fit.n_repeats:
        cells = "1 cell has" if fit.n_repeats == 1 else f"{fit.n_repeats:,} cells have"
        sentences.append(
            f"{cells} the settings and the seed of another one: they count as repeats. If they are the same run, drop "
            "one; if something else differs, name it in a column of the table."
        )
    return sentences


def form_sentence(choice: FormChoice, limit: str) -> str:
    """Which form the points speak for, with its weight and those of the others.

    Args:
        choice: The forms side by side.
        limit: "floor", or "ceiling" for a metric that rises.
    """
    weights = sorted(choice.weights.items(), key=lambda item: -item[1])

    def said(name: str) -> str:
        return _FORMS[name].format(limit=limit)

    if choice.name == UNDECIDED:
        listed = ", ".join(f"{said(name)} {weight:.2f}" for name, weight in weights)
        return f"Which form it has, these cells cannot tell ({listed}); reported is {said(choice.draws.form.name)}."
    if len(weights) == 1:
        return ""
    others = ", ".join(f"{said(name)} {weight:.2g}" for name, weight in weights if name != choice.name)
    kept = ""
    if choice.name != choice.draws.form.name:
        kept = f"; reported is {said(choice.draws.form.name)}, whose intervals hold in either case"
    return f"Form: {said(choice.name)}, weight {choice.weights[choice.name]:.2f} (others: {others}){kept}."


def parameter_said(value: float, low: float, high: float) -> str:
    """A parameter with its interval; a floor of which every draw lies beyond its bound is not known.

    >>> parameter_said(0.0, 0.0, 0.0), parameter_said(0.5, 0.4, 0.6)
    ('not known (the points ask for one beyond its bound, 0)', '0.500 [0.400, 0.600]')
    """
    if low == high:
        return f"not known (the points ask for one beyond its bound, {low:g})"
    return with_interval(value, low, high)


def _law(fit: LawFit) -> str:
    limit = "ceiling" if fit.increasing else "floor"
    words = {"floor": limit, "exponent": "exponent", "flat_beyond": f"flat from {_axis(fit)}"}
    parameters = ", ".join(
        f"{words[name]} {parameter_said(value, *fit.interval(name))}"
        for name, value in fit.params.items()
        if name in words
    )
    return (
        f"{_label(fit)} {_verb(fit)} with {_axis(fit)} by a power law (permutation test {_p(fit)}): {parameters}. "
        f"{_form(fit)}This holds for the seeds and settings that were run; the {limit} is that of this law over these "
        "sizes, not the best possible value."
    )


def _form(fit: LawFit) -> str:
    assert fit.forms is not None
    sentence = form_sentence(fit.forms, "ceiling" if fit.increasing else "floor")
    return f"{sentence} " if sentence else ""


def _weak_exponent(fit: LawFit) -> str:
    low, high = fit.interval("exponent")
    allowed = {
        (True, True): "any exponent",
        (True, False): f"any exponent up to {high:.2g}",
        (False, True): f"any exponent from {low:.2g}",
        (False, False): f"exponents from {low:.2g} to {high:.2g}",
    }[low == 0, high == math.inf]
    return (
        f"{_label(fit)} {_verb(fit)} with {_axis(fit)} (permutation test {_p(fit)}), but floor and exponent cannot be "
        f"told apart: the data allow {allowed}. Use the predictions inside the range, and no further than their "
        "interval says; cells at the two ends of the axis would help most."
    )


def _seeds_equal(fit: LawFit) -> str:
    return (
        f"{_law(fit)} Every seed gave the same values, so they were counted once: check that seeds reach the training."
    )


def _constant(fit: LawFit) -> str:
    return (
        f"No law: {_label(fit)} does not visibly depend on {_axis(fit)} (permutation test {_p(fit)}). A small effect "
        "may hide in the noise: add seeds, or levels further apart, if it matters."
    )


def _bends(fit: LawFit) -> str:
    bend = f" (lack of fit p = {fit.p_bend:.2g})" if fit.p_bend < 0.05 else ""
    return (
        f"{_label(fit)} depends on {_axis(fit)} (permutation test {_p(fit)}), but not by one power law{bend}: "
        f"{_extreme(fit)}. No exponent is reported; read the means by level, or fit a shorter range."
    )


def _wrong_direction(fit: LawFit) -> str:
    expected = "rise" if metric_named(fit.metric).increasing else "fall"
    return (
        f"{_label(fit)} {_verb(fit)} with {_axis(fit)} where a scaling law would {expected} (permutation test "
        f"{_p(fit)}): it {_seen(fit)}. Look for overfitting, or a learning rate that does not suit the larger sizes; "
        "no law is reported."
    )


def _two_levels(fit: LawFit) -> str:
    assert fit.change is not None
    alone = "" if fit.change.n_degrees_of_freedom else " Nothing says how large the noise is: there are no repeats."
    return (
        f"Two levels of {_axis(fit)} show a difference, not a law: {_label(fit)} {_seen(fit)}.{alone} Add a third "
        "level, better a fourth, to fit a law."
    )


def _one_level(fit: LawFit) -> str:
    return (
        f"Only one level of {_axis(fit)} ({_size(fit, fit.levels[0])}) has usable cells: nothing can be said about it. "
        "Run at least three."
    )


def _too_few_cells(fit: LawFit) -> str:
    return (
        f"{fit.n_cells} cells at {len(fit.levels)} levels of {_axis(fit)} are too few to tell a law from chance: "
        f"{_label(fit)} {_seen(fit)}. Run every level with the same two seeds or more, or a fourth level."
    )


def _p(fit: LawFit) -> str:
    return f"p = {fit.p_trend:.2g}"


def _label(fit: LawFit) -> str:
    return metric_named(fit.metric).label


def _axis(fit: LawFit) -> str:
    return axis_named(fit.axis).label


_MESSAGES: dict[Status, Callable[[LawFit], str]] = {
    Status.LAW: _law,
    Status.WEAK_EXPONENT: _weak_exponent,
    Status.SEEDS_EQUAL: _seeds_equal,
    Status.CONSTANT: _constant,
    Status.BENDS: _bends,
    Status.WRONG_DIRECTION: _wrong_direction,
    Status.TWO_LEVELS: _two_levels,
    Status.ONE_LEVEL: _one_level,
    Status.TOO_FEW_CELLS: _too_few_cells,
}

_WHY_NO_LAW = {
    Status.BENDS: "no one power law describes it",
    Status.WRONG_DIRECTION: "against the direction of a scaling law, so no law is reported",
    Status.TWO_LEVELS: "two levels show a difference, not a law",
    Status.TOO_FEW_CELLS: "too few cells to tell a law from chance",
}
