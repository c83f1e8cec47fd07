"""The part of the posterior in closed form: a linear model with unknown noise and a random seed effect.

Given its exponents, a law is linear in its floor and amplitudes. Given the ratios of the noise (how it changes along
each axis, how much of it is shared by a seed) the model is conjugate: coefficients and noise integrate out. What is
left is a weight for each pair of a *candidate* (one choice of exponents) and a *noise model*.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Residuals below this share of the total are rounding: data without noise would otherwise divide by zero.
_SMALLEST_RESIDUAL = 1e-13
# Of the trace of a Gram matrix: columns that are alike to the last digit would make a pivot zero.
_SMALLEST_PIVOT = 1e-13
_ROWS_AT_ONCE = 4096


class NoiseModel(NamedTuple):
    """Noise with sd = σ·exp(Σ slope·z), z from -1 to 1 along each axis, and a seed effect of variance seed_ratio·σ²."""

    slopes: tuple[float, ...]
    seed_ratio: float
    prior: float


@dataclass(frozen=True)
class Observations:
    """Means of repeated values, one entry for each (sizes, seed).

    Args:
        mean: (n,) mean of the values.
        count: (n,) how many values.
        scatter: (n,) their sum of squares about the mean.
        seed: (n,) number of the seed, from 0; all 0 where no seed effect is modelled.
        position: (n, n_axes) z, from -1 at the first level of an axis to 1 at the last.
    """

    mean: Floats
    count: Floats
    scatter: Floats
    seed: Ints
    position: Floats

    @property
    def n_values(self) -> int:
        return int(self.count.sum())


@dataclass(frozen=True)
class Designs:
    """The design matrices of all candidates, which share most of their columns.

    Args:
        columns: (n_columns, n) distinct columns.
        chosen: (n_candidates, p) which of them each candidate has.
    """

    columns: Floats
    chosen: Ints

    @property
    def n_coefficients(self) -> int:
        return int(self.chosen.shape[1])

    @cached_property
    def _products(self) -> dict[tuple[int, int], tuple[Ints, Ints, Ints]]:
        """For coefficients i ≥ j: the distinct pairs of columns (first and second), and which pair each candidate has.

        Their product is taken once, however many candidates have both.
        """
        n_columns, products = len(self.columns), {}
        for i in range(self.n_coefficients):
            for j in range(i + 1):
                code, place = np.unique(self.chosen[:, i] * n_columns + self.chosen[:, j], return_inverse=True)
                products[i, j] = (*np.divmod(code, n_columns), place)
        return products

    def grams(self, columns: Floats, weights: Floats) -> Floats:
        """X' diag(w) X of every candidate under every row of weights; only the lower triangles are filled.

        Args:
            columns: (n_columns, m) these columns, or sums of them over groups of observations.
            weights: (n_weights, m).

        Returns:
            (p, p, n_weights, n_candidates).
        """
        p = self.n_coefficients
        gram = np.zeros((p, p, len(weights), len(self.chosen)))
        for (i, j), (first, second, place) in self._products.items():
            sums = np.zeros((len(weights), len(first)))
            for start in range(0, columns.shape[1], _ROWS_AT_ONCE):
                some = slice(start, start + _ROWS_AT_ONCE)
                sums += weights[:, some] @ (columns[first, some] * columns[second, some]).T
            gram[i, j] = sums[:, place]
        return gram


@dataclass(frozen=True)
class Conditionals:
    """Everything about coefficients and noise, given the candidate and the noise model.

    Args:
        chosen: (n_candidates, p) columns of each candidate.
        log_weight: (n_models, n_candidates) log posterior weight, up to a constant.
        root: (p, p, n_models, n_candidates) L of G = LL', the precision of the coefficients in units of 1/σ².
        whitened: (p, n_models, n_candidates) L'β, β the mean of the coefficients.
        residual: (n_models, n_candidates) weighted residual sum of squares.
        shrinkage: (n_models, n_seeds) how much of a seed's mean residual is its own effect, over its weight.
        seed_total: (n_models, n_seeds) weighted sum of the values of each seed.
        seed_design: (n_models, n_columns, n_seeds) weighted sum of the columns over each seed.
    """

    chosen: Ints
    log_weight: Floats
    root: Floats
    whitened: Floats
    residual: Floats
    shrinkage: Floats
    seed_total: Floats
    seed_design: Floats


class Draws(NamedTuple):
    """Joint draws: candidate (n,), coefficients (n, p), noise sd (n,), mean effect of the seeds that were run (n,)."""

    candidate: Ints
    coefficients: Floats
    sigma: Floats
    seed_shift: Floats


def condition(designs: Designs, observations: Observations, noise_models: Sequence[NoiseModel]) -> Conditionals:
    """Integrate coefficients and noise out, for every candidate and noise model.

    With design X, weights w = count·exp(-2·slope·z) and P the precision of the noise (diag w, less the seed effect):
    G = X'PX, β = G⁻¹X'Py, rss = y'Py - β'Gβ, and the weight is
    prior · |P|^½ · |G|^(-½) · |G₀|^½ · rss^(-(n - p)/2), G₀ the G of equal noise without seed effect.
    The factor |G₀|^½ makes the flat prior on the coefficients flat in orthonormal coordinates; the noise has 1/σ².

    Args:
        designs: Columns of each candidate.
        observations: The data.
        noise_models: The noise models to sum over.

    **Source**: standard conjugate linear model; its use here is ours.
    """
    slopes = np.array([model.slopes for model in noise_models])
    ratio = np.array([model.seed_ratio for model in noise_models])
    kinds, kind = np.unique(slopes, axis=0, return_inverse=True)
    kind = kind.ravel()
    weights = observations.count * np.exp(-2 * kinds @ observations.position.T)  # (n_kinds, n)

    indicator = np.eye(observations.seed.max() + 1)[observations.seed]
    seed_weight = (weights @ indicator)[kind]
    seed_total = ((weights * observations.mean) @ indicator)[kind]
    seed_designs = [(designs.columns * weight) @ indicator for weight in weights]
    shrinkage = ratio[:, None] / (1 + ratio[:, None] * seed_weight)

    gram = designs.grams(designs.columns, weights)[:, :, kind]
    for number, seed_design in enumerate(seed_designs):
        shared = np.flatnonzero((kind == number) & (ratio > 0))
        gram[:, :, shared] -= designs.grams(seed_design, shrinkage[shared])
    root = _cholesky(gram)
    seed_design = np.stack(seed_designs)[kind]
    moment = ((weights * observations.mean) @ designs.columns.T)[kind]
    moment = moment - np.einsum("mks,ms->mk", seed_design, shrinkage * seed_total)
    whitened = _solve_lower(root, np.stack([moment[:, columns] for columns in designs.chosen.T]))

    relative = weights / observations.count
    total = (weights @ observations.mean**2 + relative @ observations.scatter)[kind]
    total = total - (shrinkage * seed_total**2).sum(axis=1)
    smallest = _SMALLEST_RESIDUAL * np.maximum(total, 1e-300)[:, None]
    residual = np.maximum(total[:, None] - (whitened**2).sum(axis=0), smallest)
    log_precision = (np.log(relative) @ observations.count)[kind] - np.log1p(ratio[:, None] * seed_weight).sum(axis=1)
    flat = _cholesky(designs.grams(designs.columns, observations.count[None]))
    log_weight = (
        np.log([model.prior for model in noise_models])[:, None]
        + log_precision[:, None] / 2
        - _half_log_determinant(root)
        + _half_log_determinant(flat)
        - 0.5 * (observations.n_values - designs.n_coefficients) * np.log(residual)
    )
    return Conditionals(designs.chosen, log_weight, root, whitened, residual, shrinkage, seed_total, seed_design)


def draw(conditionals: Conditionals, n_values: int, n_draws: int, rng: np.random.Generator) -> Draws:
    """Joint draws of candidate, coefficients, noise and seed shift.

    Args:
        conditionals: What `condition` returned.
        n_values: How many values the data hold.
        n_draws: How many draws.
        rng: Source of randomness.
    """
    c = conditionals
    n_candidates, n_coefficients = c.chosen.shape
    cumulative = np.cumsum(np.exp(c.log_weight - c.log_weight.max()).ravel())
    picked = np.searchsorted(cumulative, rng.random(n_draws) * cumulative[-1], side="right")
    model, candidate = np.divmod(np.minimum(picked, cumulative.size - 1), n_candidates)

    sigma = np.sqrt(c.residual[model, candidate] / rng.chisquare(n_values - n_coefficients, n_draws))
    noise = sigma * rng.standard_normal((n_coefficients, n_draws))
    root, whitened = c.root[:, :, model, candidate], c.whitened[:, model, candidate]
    coefficients = _solve_upper(root, whitened + noise).T

    shrinkage = c.shrinkage[model]
    design = c.seed_design[model[:, None], c.chosen[candidate]]
    left_over = c.seed_total[model] - np.einsum("nps,np->ns", design, coefficients)
    spread = sigma[:, None] * np.sqrt(shrinkage) * rng.standard_normal(shrinkage.shape)
    return Draws(candidate, coefficients, sigma, (shrinkage * left_over + spread).mean(axis=1))


# Of many small matrices at once, the axes of the matrix first: one call a matrix would take ten times as long.


def _cholesky(gram: Floats) -> Floats:
    """(p, p, ...) the lower L of LL' = gram, of which only the lower triangle is looked at."""
    p, root = len(gram), np.zeros_like(gram)
    smallest = _SMALLEST_PIVOT * np.einsum("ii...->...", gram)
    for j in range(p):
        for i in range(j, p):
            rest = gram[i, j] - (root[i, :j] * root[j, :j]).sum(axis=0)
            root[i, j] = np.sqrt(np.maximum(rest, smallest)) if i == j else rest / root[j, j]
    return root


def _solve_lower(root: Floats, right: Floats) -> Floats:
    """(p, ...) x of Lx = right."""
    x = np.empty_like(right)
    for i in range(len(right)):
        x[i] = (right[i] - (root[i, :i] * x[:i]).sum(axis=0)) / root[i, i]
    return x


def _solve_upper(root: Floats, right: Floats) -> Floats:
    """(p, ...) x of L'x = right."""
    x = np.empty_like(right)
    for i in reversed(range(len(right))):
        x[i] = (right[i] - (root[i + 1 :, i] * x[i + 1 :]).sum(axis=0)) / root[i, i]
    return x


def _half_log_determinant(root: Floats) -> Floats:
    """(...) half the log determinant of LL'."""
    return np.asarray(np.log(np.einsum("ii...->i...", root)).sum(axis=0))
