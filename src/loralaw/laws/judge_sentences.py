"""What a judgement says to its user."""

from typing import Protocol

from loralaw.laws.metrics import axis_named, metric_named
from loralaw.laws.numbers import with_interval

_LARGEST_P = 0.05


class Interval(Protocol):
    """A value with its ends."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


def comparison_sentence(first: str, second: str, axis: str, misfit_ratio: Interval, p: float) -> str:
    """Whether the first metric follows the law of an axis better than the second, in one sentence.

    It is said plainly where both p and the interval say so; p alone, which has more power, only makes it seem so.
    """
    one, other, along = metric_named(first).label, metric_named(second).label, axis_named(axis).label
    ratio = with_interval(misfit_ratio.value, misfit_ratio.low, misfit_ratio.high)
    evidence = f"(misfit {ratio} times as large, p = {p:.2g})"
    if p > _LARGEST_P:
        return f"{one} follows the {along} law neither visibly better nor worse than {other} {evidence}"
    better = "better" if misfit_ratio.value < 1 else "worse"
    if misfit_ratio.low <= 1 <= misfit_ratio.high:
        return (
            f"{one} seems to follow the {along} law {better} than {other}, but the interval leaves it open {evidence}"
        )
    return f"{one} follows the {along} law {better} than {other} {evidence}"
