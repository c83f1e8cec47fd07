"""What an advice says to its user."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from loralaw.laws.configurations import Candidates
from loralaw.laws.metrics import axis_named, metric_named
from loralaw.laws.numbers import rows_were, three_digits, with_interval

if TYPE_CHECKING:
    from loralaw.laws.recommending import Gain, Option, Recommendation


def advice_sentences(
    advice: "Recommendation",
    reach: float | None,
    budget: Mapping[str, float] | None,
    nearest: "Option | None",
    cost_error: float,
) -> list[str]:
    """The advice, its runner-up, what doubling would buy, and what it rests on."""
    label, unit = metric_named(advice.metric).label, metric_named(advice.metric).unit
    unit = f" {unit}" if unit else ""
    asked = _asked(label, reach, budget, unit)
    if advice.best is None:
        if nearest is None:
            return [" ".join(filter(None, ("No configuration is known", asked))) + "."]
        return [
            f"No configuration is predicted {asked}; nearest: {nearest.label}, {label} {_value(nearest)}{unit}"
            f"{_reaching(nearest)}."
        ]
    best = advice.best
    beyond = "; it lies beyond what was run" if best.is_extrapolated else "" if best.is_measured else "; it was not run"
    said = [f"{best.label}: {label} {_value(best)}{unit} expected{_reaching(best)}{_cost(best, budget)}{beyond}."]
    if advice.runner_up is not None and advice.difference is not None:
        middle, low, high = advice.difference
        evidence = "" if low > 0 or high < 0 else "; these cells do not tell the two apart"
        worse = "worse" if middle >= 0 else "better"
        ends = (middle, low, high) if middle >= 0 else (-middle, -high, -low)
        said.append(
            f"Next: {advice.runner_up.label}, {with_interval(*ends)}{unit} {worse}{_cost(advice.runner_up, budget)}"
            f"{evidence}."
        )
    said += [_gain(gain, unit) for gain in advice.gains]
    if best.cost is not None and not best.is_measured:
        said.append(f"Its cost is told from the others; such costs were off by {cost_error:.0%} typically.")
    return said


def what_it_rests_on(found: Candidates, metric: str, larger_is_better: bool | None) -> list[str]:
    """What a user must know of the rows and of the direction."""
    said = []
    if larger_is_better is None and metric_named(metric).increasing is None:
        said.append(f"Smaller {metric_named(metric).label} is taken to be better.")
    if found.n_left_out:
        said.append(f"{rows_were(found.n_left_out)} left out: not finished, or without a number.")
    if not found.is_noise_known:
        said.append(
            "No settings were run twice, so that the noise is not known: the spread of all cells stands for it."
        )
    return said


def _gain(gain: "Gain", unit: str) -> str:
    axis = axis_named(gain.axis).label
    if not gain.is_visible:
        return f"Twice the {axis}: no visible effect."
    nothing = "" if gain.low > 0 or gain.high < 0 else ", which may be nothing"
    return f"Twice the {axis} would buy {with_interval(gain.value, gain.low, gain.high)}{unit}{nothing}."


def _asked(label: str, reach: float | None, budget: Mapping[str, float] | None, unit: str) -> str:
    goal = "" if reach is None else f"to reach {label} {three_digits(reach)}{unit}"
    limits = [f"within {_amount(amount, name)}" for name, amount in (budget or {}).items()]
    return " ".join(filter(None, (goal, *limits)))


def _amount(value: float, unit: str) -> str:
    """`3.60 seconds`, `16.0 GB of memory`, `money 40.0`."""
    named = {"memory_gb": "{} GB of memory", "money": "a price of {}", "gpu_hours": "{} GPU-hours"}
    return named.get(unit, f"{{}} {unit}").format(three_digits(value))


def _value(option: "Option") -> str:
    return with_interval(option.value, option.low, option.high)


def _reaching(option: "Option") -> str:
    p = option.p_reaches
    return "" if p is None else f" (reaches the target with probability {p:.2f})"


def _cost(option: "Option", budget: Mapping[str, float] | None) -> str:
    if option.cost is None:
        return ""
    return f", {_amount(option.cost, next(iter(budget or {}), 'seconds'))}"
