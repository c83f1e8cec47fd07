"""Does a law describe every point, but for noise?"""

import numpy as np
from scipy.special import fdtrc

from loralaw.laws.linear_model import Floats, Ints
from loralaw.laws.posterior import LawDraws, seeds_recur

LARGEST_P_OF_A_MISFIT = 0.01


def misfit_test(draws: LawDraws, sizes: Floats, value: Floats, seed: Ints) -> float:
    """p of the F test of "this law" against "any mean at each point".

    F = [rough/(P - p)] / [pure/(n - P - seeds + 1)], rough the squares of the P point means about the best draw of the
    law's p parameters, pure those of the cells about the point means without the seeds' own shifts.

    Args:
        draws: Of the law.
        sizes: (n, n_axes) of the points.
        value: (n,) their values.
        seed: (n,) numbers of their seeds.

    Returns:
        p, or NaN where one point more than parameters and two spare cells are not there to tell.

    **Source**: standard lack-of-fit test. The best draw lies a little above the least squares, so p is a little small
    where a law has many parameters; the limit for a misfit is 0.01.
    """
    places, number = np.unique(sizes, axis=0, return_inverse=True)
    number = number.ravel()
    seed = np.unique(seed, return_inverse=True)[1] if seeds_recur(sizes, seed) else np.zeros_like(number)
    n_parameters = draws.form.n_linear + draws.form.n_searched
    rough_freedom, spare = len(places) - n_parameters, len(value) - len(places) - int(seed.max())
    if rough_freedom < 1 or spare < 2:
        return float("nan")
    count = np.bincount(number)
    mean = np.bincount(number, value) / count
    residual = value - mean[number]
    shift = np.bincount(seed, residual) / np.bincount(seed)
    pure = float(((residual - shift[seed]) ** 2).sum())
    if pure <= 1e-24 * float(((value - value.mean()) ** 2).sum()):
        return float("nan")  # no noise to compare with
    rough = float((count * (mean - draws.at(places)) ** 2).sum(axis=1).min())
    return float(fdtrc(rough_freedom, spare, (rough / rough_freedom) / (pure / spare)))
