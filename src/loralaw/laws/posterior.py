"""The posterior of a law: summed over a grid of exponents, in closed form for everything else."""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from loralaw.laws.exponent_grid import HIGHEST_EXPONENT, LOWEST_EXPONENT, arc_length_grid
from loralaw.laws.forms import Form
from loralaw.laws.linear_model import Designs, Floats, Ints, NoiseModel, Observations, condition, draw

N_DRAWS = 4000
_GRID = {1: 64, 2: 24, 3: 12}  # points an axis, by the number of searched parameters
_MOST_ROUNDS = 40  # of draws, when few of them have the law's direction
_FEWEST_DRAWS = 100

_NOISE_SLOPES = (-0.9, -0.6, -0.3, 0.3, 0.6, 0.9)  # log sd at the ends of an axis against its middle
_SEED_RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0)  # variance of the seed effect over that of the noise
_PRIOR_NO_SEED_EFFECT = 0.7
_MOST_SEEDS = 50  # with more, seeds are repeats like any other: their shared shift averages out


@dataclass(frozen=True)
class LawDraws:
    """Draws from the posterior of a law, each array with n_draws rows.

    Args:
        form: The law.
        searched: (n_draws, n_searched) exponents, and the log size beyond which the law is flat; on the grid,
            consistent with the other parameters: for predictions.
        spread: The same, spread inside the cells of the grid: for their own intervals.
        floor: (n_draws,) the limit at infinite size, over all seeds; 0 for a form without a floor.
        amplitudes: (n_draws, n_terms) in the metric's unit where all log sizes are those of reference: positive for a
            metric that falls, negative for one that rises.
        sigma: (n_draws,) sd of the noise of one cell, at the middle of the axes.
        seed_shift: (n_draws,) mean effect of the seeds that were run, which predictions for these seeds contain.
        log_reference: (n_axes,) the log sizes about which the draws were made.
        log_evidence: Logarithm of the marginal likelihood, with a unit-information prior on the amplitudes; to be
            compared between forms of the same points.
    """

    form: Form
    searched: Floats
    spread: Floats
    floor: Floats
    amplitudes: Floats
    sigma: Floats
    seed_shift: Floats
    log_reference: Floats
    log_evidence: float

    def at(self, sizes: Floats, *, new_seeds: bool = False) -> Floats:
        """(n_draws, m) the law at sizes (m, n_axes): the mean of the seeds that were run, or of all seeds."""
        log_sizes = np.log(sizes) - self.log_reference
        law = np.repeat((self.floor if new_seeds else self.floor + self.seed_shift)[:, None], len(sizes), axis=1)
        for term, amplitude in enumerate(self.amplitudes.T):
            law += amplitude[:, None] * self.form.columns(term, self.searched, log_sizes)
        return law

    def parameter(self, name: str) -> Floats:
        """(n_draws,) a parameter of `Form.parameters`; amplitudes are those at size 1, sizes no logarithms."""
        if name == "floor":
            return self.floor
        if name == "flat_beyond":
            return np.asarray(np.exp(self.spread[:, -1] + self.log_reference[0]))
        if name in self.form.exponents:
            return self.spread[:, self.form.exponents.index(name)]
        term = self.form.amplitudes.index(name)
        axes = [number for number in self.form.terms[term] if number < len(self.form.axes)]
        return np.asarray(self.amplitudes[:, term] * np.exp(self.searched[:, axes] @ self.log_reference[axes]))


def law_posterior(
    form: Form, sizes: Floats, values: Floats, seeds: Ints, *, increasing: bool, rng: np.random.Generator
) -> LawDraws | None:
    """Draws from the posterior of a law, or None where hardly any of it has the law's direction.

    y = law + seed effect + noise, noise sd = σ·exp(slope·z) with z from -1 to 1 along one axis at a time. Exponents are
    summed over on a grid equally spaced in arc length, slope and seed effect over a few values, and the rest is in
    closed form.

    Args:
        form: The law.
        sizes: (n, n_axes) positive, at least three distinct ones an axis.
        values: (n,) the metric; more of them than the form has parameters.
        seeds: (n,) numbers of the seeds; cells with the same seed may share a shift.
        increasing: Whether the metric rises with size.
        rng: Source of randomness.

    Returns:
        4,000 draws. Where fewer have the right sign they are repeated.

    **Source**: ours. For the measured coverage of its intervals see `benchmarks/results/law_coverage.md`.
    """
    sign = -1.0 if increasing else 1.0
    # Centred and scaled to a range of one, so that neither an offset nor a unit costs digits.
    centre, scale = float(values.mean()) * form.has_floor, float(np.ptp(values))
    seeds = np.unique(seeds, return_inverse=True)[1] if seeds_recur(sizes, seeds) else np.zeros_like(seeds)
    log_sizes, observations = _observe(np.log(sizes), sign * (values - centre) / scale, seeds)
    reference = log_sizes.mean(axis=0)
    log_sizes = log_sizes - reference

    grid = _Grid(form, log_sizes)
    noise_models = _noise_models(len(form.axes), seeds.max() > 0)
    log_prior_share = grid.zoom(observations, noise_models)
    conditionals = condition(grid.designs(), observations, noise_models)
    accepted, n_drawn = [], 0
    for _ in range(_MOST_ROUNDS):
        draws = draw(conditionals, observations.n_values, N_DRAWS, rng)
        n_drawn += N_DRAWS
        keep = (draws.coefficients[:, form.has_floor :] > 0).all(axis=1)  # the other direction is not this law
        accepted.append([array[keep] for array in draws])
        if sum(len(part[0]) for part in accepted) >= N_DRAWS:
            break
    candidate, coefficients, sigma, shift = (np.concatenate(part) for part in zip(*accepted, strict=True))
    if len(candidate) < _FEWEST_DRAWS:
        return None
    agreeing = np.log(len(candidate) / n_drawn) + len(form.terms) * np.log(2)
    information = 0.5 * form.n_linear * np.log(observations.n_values)
    likelihood = float(logsumexp(conditionals.log_weight)) - np.log(len(grid.searched)) + log_prior_share
    some = np.resize(np.arange(len(candidate)), N_DRAWS)
    candidate, coefficients = candidate[some], coefficients[some]
    return LawDraws(
        form=form,
        searched=grid.searched[candidate],
        spread=grid.spread(candidate, rng),
        floor=centre + sign * scale * coefficients[:, 0] if form.has_floor else np.zeros(N_DRAWS),
        amplitudes=sign * scale * coefficients[:, form.has_floor :],
        sigma=scale * sigma[some],
        seed_shift=sign * scale * shift[some] * form.has_floor,  # without a floor nothing says what a shift is added to
        log_reference=reference,
        log_evidence=float(likelihood - information + agreeing),
    )


def seeds_recur(sizes: Floats, seeds: Ints) -> bool:
    """Whether a shift shared by a seed can be told from noise: a few seeds, each run at more than one point.

    Args:
        sizes: (n,) or (n, n_axes).
        seeds: (n,).
    """
    n_seeds = len(np.unique(seeds))
    n_pairs = len(np.unique(np.column_stack([sizes, seeds]), axis=0))
    return 1 < n_seeds <= _MOST_SEEDS and n_pairs > 1.5 * n_seeds


def _observe(log_sizes: Floats, values: Floats, seeds: Ints) -> tuple[Floats, Observations]:
    """Log sizes and the observations at them: cells with the same sizes and seed become one."""
    places, inverse = np.unique(np.column_stack([log_sizes, seeds]), axis=0, return_inverse=True)
    inverse = inverse.ravel()
    count = np.bincount(inverse).astype(np.float64)
    mean = np.bincount(inverse, values) / count
    scatter = np.bincount(inverse, (values - mean[inverse]) ** 2).astype(np.float64)
    log_sizes = places[:, :-1]
    position = 2 * (log_sizes - log_sizes.min(axis=0)) / np.ptp(log_sizes, axis=0) - 1
    return log_sizes, Observations(mean, count, scatter, places[:, -1].astype(np.int64), position)


def _noise_models(n_axes: int, seeds_recur: bool) -> list[NoiseModel]:
    ratios = [(0.0, 1.0)]
    if seeds_recur:
        share = (1 - _PRIOR_NO_SEED_EFFECT) / len(_SEED_RATIOS)
        ratios = [(0.0, _PRIOR_NO_SEED_EFFECT), *((ratio, share) for ratio in _SEED_RATIOS)]
    along_one = [slope * row for row in np.eye(n_axes) for slope in _NOISE_SLOPES]
    return [
        NoiseModel(tuple(slopes), ratio, prior) for slopes in (np.zeros(n_axes), *along_one) for ratio, prior in ratios
    ]


def _sketch(noise_models: list[NoiseModel]) -> list[NoiseModel]:
    """Enough of them to see where the posterior lives."""
    steepest = max(_NOISE_SLOPES)
    return [
        model
        for model in noise_models
        if max(map(abs, model.slopes)) in (0.0, steepest) and model.seed_ratio in (0.0, 1.0)
    ]


class _Grid:
    """The values of the searched parameters that are summed over, and the columns that they make.

    Args:
        form: The law.
        log_sizes: (n, n_axes) of the observations, centred.
    """

    def __init__(self, form: Form, log_sizes: Floats) -> None:
        self._form, self._log_sizes = form, log_sizes
        self._n_points = _GRID[form.n_searched]
        self._ranges = [(LOWEST_EXPONENT, HIGHEST_EXPONENT)] * len(form.axes)
        if form.is_saturating:
            levels = np.unique(log_sizes[:, 0])
            self._ranges.append((float(levels[1]), max(float(levels[-2]), float(levels[1]) + 1e-6)))
        self._place()

    @property
    def searched(self) -> Floats:
        """(n_candidates, n_searched)."""
        return np.column_stack([points[place] for points, place in zip(self._points, self._places, strict=True)])

    def spread(self, candidate: Ints, rng: np.random.Generator) -> Floats:
        """(n, n_searched) the searched parameters of candidates, anywhere inside their cells."""
        inside = []
        for edges, place in zip(self._edges, self._places, strict=True):
            cell = place[candidate]
            inside.append(edges[cell] + (edges[cell + 1] - edges[cell]) * rng.random(len(candidate)))
        return np.column_stack(inside)

    def zoom(self, observations: Observations, noise_models: list[NoiseModel]) -> float:
        """Cut the ranges to where the posterior lives, until it fills most of the grid.

        Returns:
            The log of the prior's share that is left.
        """
        sketch, log_share = _sketch(noise_models), 0.0
        for _ in range(6):
            log_weight = condition(self.designs(), observations, sketch).log_weight
            kept = self._cut(np.exp(log_weight - log_weight.max()).sum(axis=0))
            if kept == 1.0:
                break
            log_share += float(np.log(kept))
            self._place()
        return log_share

    def designs(self) -> Designs:
        """Column 0 is that of the floor."""
        columns, index = [np.ones((1, len(self._log_sizes)))], []
        shape, n_columns = (self._n_points,) * self._form.n_searched, 1
        for term, numbers in enumerate(self._form.terms):
            some = np.zeros((self._n_points ** len(numbers), self._form.n_searched))
            for number, place in zip(numbers, np.indices((self._n_points,) * len(numbers)), strict=True):
                some[:, number] = self._points[number][place.ravel()]
            columns.append(self._form.columns(term, some, self._log_sizes))
            within = np.ravel_multi_index([self._places[n] for n in numbers], tuple(shape[n] for n in numbers))
            index.append(n_columns + within)
            n_columns += len(some)
        floor = [np.zeros(len(index[0]), dtype=np.int64)] * self._form.has_floor
        return Designs(np.vstack(columns), np.stack([*floor, *index], axis=1))

    def _place(self) -> None:
        self._points, self._edges = list[Floats](), list[Floats]()
        for number, (low, high) in enumerate(self._ranges):
            if number < len(self._form.axes):
                levels = np.exp(np.unique(self._log_sizes[:, number]))
                points, edges = arc_length_grid(levels, self._n_points, low, high)
            else:  # where the law becomes flat: equally spaced in the logarithm
                edges = np.linspace(low, high, self._n_points + 1)
                points = (edges[1:] + edges[:-1]) / 2
            self._points.append(points)
            self._edges.append(edges)
        self._places = [place.ravel() for place in np.indices((self._n_points,) * len(self._ranges))]

    def _cut(self, weight: Floats) -> float:
        """Cut each range to the cells with weight; the share of all cells that is left."""
        kept = 1.0
        for number, place in enumerate(self._places):
            mass = np.bincount(place, weight, minlength=self._n_points)
            inside = np.flatnonzero(mass > 1.6e-3 / self._n_points * mass.sum())
            first, last = max(inside[0] - 1, 0), min(inside[-1] + 2, self._n_points)
            if last - first < 0.6 * self._n_points:
                edges = self._edges[number]
                self._ranges[number] = float(edges[first]), float(edges[last])
                kept *= (last - first) / self._n_points
        return kept
