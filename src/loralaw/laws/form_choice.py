"""Which form the points speak for: weights by marginal likelihood, and a name only where they are clear."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loralaw.laws.forms import Form, FormName
from loralaw.laws.linear_model import Floats, Ints
from loralaw.laws.posterior import LawDraws, law_posterior

UNDECIDED: Literal["undecided"] = "undecided"
_CLEAR_WEIGHT = 0.9
_WEIGHT_OF_A_SATURATION = 0.99  # before its flat end replaces the fallback's: a wrong one misses in every extrapolation
_FEWEST_LEVELS_OF_A_SATURATION = 5


@dataclass(frozen=True)
class FormChoice:
    """The forms of a law side by side.

    Args:
        name: The form whose weight is above 0.9, or "undecided".
        weights: Of every form that these points can carry; they sum to one.
        draws: Of the form that is reported.
        others: Of the other forms that these points can carry.
    """

    name: FormName | Literal["undecided"]
    weights: dict[FormName, float]
    draws: LawDraws
    others: tuple[LawDraws, ...]


def choose_form(
    forms: Sequence[Form], fallback: Form, sizes: Floats, values: Floats, seeds: Ints, *, increasing: bool
) -> FormChoice | None:
    """Fit every form and weigh them; None where hardly any of the fallback's posterior has the law's direction.

    What is reported is the fallback, unless another form is named that does not merely leave its floor out: leaving out
    a floor that is there costs the intervals their coverage (25 % where 95 were said), keeping one that is not costs
    some width. A saturation is reported from a weight of 0.99 on, for the same reason.

    Args:
        forms: To be weighed.
        fallback: One of them.
        sizes: (n, n_axes) of the points.
        values: (n,) the metric.
        seeds: (n,) numbers of the seeds.
        increasing: Whether the metric rises with size.

    **Source**: ours. Measured: see `benchmarks/results/law_decisions.md`.
    """
    found = {
        form.name: law_posterior(form, sizes, values, seeds, increasing=increasing, rng=np.random.default_rng(0))
        for form in forms
        if can_carry(form, sizes)
    }
    fitted = {name: draws for name, draws in found.items() if draws is not None}
    if fallback.name not in fitted:
        return None
    evidence = np.array([draws.log_evidence for draws in fitted.values()])
    weights = np.exp(evidence - evidence.max())
    by_name = dict(zip(fitted, (weights / weights.sum()).tolist(), strict=True))
    best = max(by_name, key=lambda name: by_name[name])
    is_clear = by_name[best] > _CLEAR_WEIGHT
    needed = {"power": np.inf, "saturating": _WEIGHT_OF_A_SATURATION}.get(best, _CLEAR_WEIGHT)
    reported = fitted.pop(best if by_name[best] > needed else fallback.name)
    return FormChoice(best if is_clear else UNDECIDED, by_name, reported, tuple(fitted.values()))


def can_carry(form: Form, sizes: Floats) -> bool:
    """Whether there are points enough for the parameters of a form: one to spare, and levels on every axis."""
    levels = [len(np.unique(size)) for size in sizes.T]
    fewest = _FEWEST_LEVELS_OF_A_SATURATION if form.is_saturating else 3
    return min(levels) >= fewest and len(sizes) > form.n_linear + form.n_searched
