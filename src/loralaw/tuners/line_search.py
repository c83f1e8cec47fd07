"""The step along a line that lowers a loss most, from a handful of its values."""

import math
from collections.abc import Callable

_N_TRIES = 7


def best_step(loss_at: Callable[[float], float], loss_at_0: float, first: float, limit: float) -> float:
    """Of the steps that were tried the one with the lowest loss; 0 if none has a lower one than 0.

    Beginning with `first`, steps are doubled while the loss falls, or halved until it is lower than at 0; then the
    lowest point of the parabola through the best one and two others beside it is tried. At most 8 values are asked for.

    Args:
        loss_at: the loss at a step; one that is not finite counts as too large a step.
        loss_at_0: its value at 0.
        first: above 0.
        limit: the largest step, above `first`.

    **Source**: ours, of textbook parts.

    >>> best_step(lambda step: (step - 3) ** 2, 9.0, first=0.5, limit=10.0)
    3.0
    >>> best_step(lambda step: (step - 3) ** 2, 9.0, first=0.5, limit=2.5)
    2.5
    """
    tried = {0.0: loss_at_0}

    def attempt(step: float) -> float:
        loss = loss_at(step)
        tried[step] = loss if math.isfinite(loss) else math.inf
        return tried[step]

    step, falls = first, attempt(first) < loss_at_0
    while len(tried) <= _N_TRIES:
        is_lowest = tried[step] == min(tried.values())
        if (step == limit or not is_lowest) if falls else tried[step] < loss_at_0:
            break
        step = min(2 * step, limit) if falls else step / 2
        attempt(step)
    best, steps = min(tried, key=tried.__getitem__), sorted(step for step in tried if tried[step] < math.inf)
    if best > 0 and len(steps) > 2:
        left = min(steps.index(best) - 1, len(steps) - 3)
        vertex = _lowest_of_parabola(*((s, tried[s]) for s in steps[left : left + 3]))
        if vertex is not None and vertex not in tried:
            attempt(vertex)
    return min(tried, key=tried.__getitem__)


def _lowest_of_parabola(*points: tuple[float, float]) -> float | None:
    """Of the parabola through three points, in their order; None unless it lies between the first and the last."""
    (a, at_a), (b, at_b), (c, at_c) = points
    slope = (at_b - at_a) / (b - a)
    curvature = ((at_c - at_b) / (c - b) - slope) / (c - a)
    if curvature <= 0:
        return None
    vertex = (a + b) / 2 - slope / (2 * curvature)
    return vertex if a < vertex < c else None
