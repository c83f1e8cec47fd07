"""Exponents equally spaced in arc length: the grid that the posterior sums over."""

import numpy as np
from numpy.typing import NDArray

# Below 0.02 a power law over any study's range is a logarithm, above 3 it is a step at the first level.
LOWEST_EXPONENT, HIGHEST_EXPONENT = 0.02, 3.0
_STEPS = 801  # of the curve whose length is measured


def arc_length_grid(
    sizes: NDArray[np.float64],
    n_cells: int,
    lowest: float = LOWEST_EXPONENT,
    highest: float = HIGHEST_EXPONENT,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres and edges of `n_cells` exponents, equally far apart in what a study can tell apart.

    The distance between two exponents is the arc length of u(a) = f(a) / ‖f(a)‖, f(a) = x^(-a) - mean(x^(-a)), between
    them. A prior uniform in it favours no exponents merely because many of them give the same curve over these sizes,
    which is what gives the intervals their coverage.

    Args:
        sizes: (n_levels,) the distinct sizes, positive, at least three; their unit does not matter.
        n_cells: How many exponents.
        lowest: Start of the range.
        highest: End of the range.

    Returns:
        (n_cells,) centres and (n_cells + 1,) edges, rising.

    **Source**: ours.

    >>> centres, edges = arc_length_grid(np.array([1.0, 4.0, 16.0]), 4)
    >>> bool(edges[0] == 0.02 and edges[-1] == 3.0 and np.all(np.diff(centres) > 0))
    True
    """
    exponents = np.exp(np.linspace(np.log(lowest), np.log(highest), _STEPS))
    direction = unit_directions(sizes, exponents)
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(direction, axis=0), axis=1))])
    centres = np.interp((np.arange(n_cells) + 0.5) / n_cells * length[-1], length, exponents)
    edges = np.interp(np.linspace(0, length[-1], n_cells + 1), length, exponents)
    edges[0], edges[-1] = lowest, highest
    return centres, edges


def unit_directions(sizes: NDArray[np.float64], exponents: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n_exponents, n_sizes) centred x^(-a), each of length 1: the shape of the law without floor and amplitude."""
    shape: NDArray[np.float64] = np.exp(-exponents[:, None] * np.log(sizes / sizes.min()))
    shape -= shape.mean(axis=1, keepdims=True)
    shape /= np.linalg.norm(shape, axis=1, keepdims=True)
    return shape
