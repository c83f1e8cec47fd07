"""The part of the posterior in closed form: a linear model with unknown noise and a random seed effect.

Given its exponents, a law is linear in its floor and amplitudes. Given the ratios of the noise (how it changes along
each axis, how much of it is shared by a seed) the model is conjugate: coefficients and noise integrate out. What is
left is a weight for each pair of a *candidate* (one choice of exponents) and a *noise model*.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Residuals below this share of the total are rounding: data without noise would otherwise divide by zero.
_SMALLEST_RESIDUAL = 1e-13
# Added to the diagonal of a Gram matrix, of its trace: columns that are alike to the last digit would make it singular.
_RIDGE = 1e-13
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


class Designs(NamedTuple):
    """The design matrices of all candidates, which share most of their columns.

    Args:
        columns: (n_columns, n) distinct columns.
        chosen: (n_candidates, p) which of them each candidate has.
    """

    columns: Floats
    chosen: Ints


@dataclass(frozen=True)
class Conditionals:
    """Everything about coefficients and noise, given the candidate and the noise model.

    Args:
        chosen: (n_candidates, p) columns of each candidate.
        log_weight: (n_models, n_candidates) log posterior weight, up to a constant.
        gram: (n_models, n_candidates, p, p) precision of the coefficients, in units of 1/σ².
        coefficients: (n_models, n_candidates, p) their mean.
        residual: (n_models, n_candidates) weighted residual sum of squares.
        shrinkage: (n_models, n_seeds) how much of a seed's mean residual is its own effect, over its weight.
        seed_total: (n_models, n_seeds) weighted sum of the values of each seed.
        seed_design: (n_models, n_columns, n_seeds) weighted sum of the columns over each seed.
    """

    chosen: Ints
    log_weight: Floats
    gram: Floats
    coefficients: Floats
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
    n_coefficients = designs.chosen.shape[1]
    slopes = np.array([model.slopes for model in noise_models])
    ratio = np.array([model.seed_ratio for model in noise_models])
    kinds, kind = np.unique(slopes, axis=0, return_inverse=True)
    kind = kind.ravel()
    weights = observations.count * np.exp(-2 * kinds @ observations.position.T)  # (n_kinds, n)

    indicator = np.eye(observations.seed.max() + 1)[observations.seed]
    seed_weight = (weights @ indicator)[kind]
    seed_total = ((weights * observations.mean) @ indicator)[kind]
    seed_design = np.stack([(designs.columns * weight) @ indicator for weight in weights])[kind]
    shrinkage = ratio[:, None] / (1 + ratio[:, None] * seed_weight)

    gram = _grams(designs, weights)[kind] - _seed_grams(designs.chosen, seed_design, shrinkage)
    gram = gram + _RIDGE * np.trace(gram, axis1=-2, axis2=-1)[..., None, None] * np.eye(n_coefficients)
    moment = ((weights * observations.mean) @ designs.columns.T)[kind]
    moment = (moment - np.einsum("mks,ms->mk", seed_design, shrinkage * seed_total))[:, designs.chosen]
    relative = weights / observations.count
    total = (weights @ observations.mean**2 + relative @ observations.scatter)[kind]
    total = total - (shrinkage * seed_total**2).sum(axis=1)

    coefficients = np.asarray(np.linalg.solve(gram, moment[..., None])[..., 0], dtype=np.float64)
    smallest = _SMALLEST_RESIDUAL * np.maximum(total, 1e-300)[:, None]
    residual = np.maximum(total[:, None] - (moment * coefficients).sum(axis=-1), smallest)
    log_precision = (np.log(relative) @ observations.count)[kind] - np.log1p(ratio[:, None] * seed_weight).sum(axis=1)
    flat = _grams(designs, observations.count[None])[0]
    flat = flat + _RIDGE * np.trace(flat, axis1=-2, axis2=-1)[..., None, None] * np.eye(n_coefficients)
    log_weight = (
        np.log([model.prior for model in noise_models])[:, None]
        + log_precision[:, None] / 2
        - np.linalg.slogdet(gram)[1] / 2
        + np.linalg.slogdet(flat)[1] / 2
        - 0.5 * (observations.n_values - n_coefficients) * np.log(residual)
    )
    return Conditionals(designs.chosen, log_weight, gram, coefficients, residual, shrinkage, seed_total, seed_design)


def _grams(designs: Designs, weights: Floats) -> Floats:
    """(n_kinds, n_candidates, p, p) X' diag(w) X of every candidate under every row of weights.

    The product of two columns is taken once, however many candidates have both.
    """
    columns, chosen = designs
    n_candidates, p = chosen.shape
    gram = np.empty((len(weights), n_candidates, p, p))
    for i, j in combinations_with_replacement(range(p), 2):
        pairs, inverse = np.unique(chosen[:, [i, j]], axis=0, return_inverse=True)
        products = np.zeros((len(weights), len(pairs)))
        for start in range(0, columns.shape[1], _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            products += weights[:, some] @ (columns[pairs[:, 0], some] * columns[pairs[:, 1], some]).T
        gram[:, :, i, j] = gram[:, :, j, i] = products[:, inverse.ravel()]
    return gram


def _seed_grams(chosen: Ints, seed_design: Floats, shrinkage: Floats) -> Floats:
    """What the seed effect takes off the Gram matrices of every noise model."""
    if not shrinkage.any():
        return np.zeros(1)
    columns = [design[chosen] for design in seed_design]  # (n_candidates, p, n_seeds) each
    return np.stack([(c * of_seed) @ np.swapaxes(c, 1, 2) for c, of_seed in zip(columns, shrinkage, strict=True)])


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
    root = np.swapaxes(np.linalg.cholesky(c.gram[model, candidate]), 1, 2)
    noise = np.linalg.solve(root, rng.standard_normal((n_draws, n_coefficients, 1)))[..., 0]
    coefficients = c.coefficients[model, candidate] + sigma[:, None] * noise

    shrinkage = c.shrinkage[model]
    design = c.seed_design[model[:, None], c.chosen[candidate]]
    left_over = c.seed_total[model] - np.einsum("nps,np->ns", design, coefficients)
    spread = sigma[:, None] * np.sqrt(shrinkage) * rng.standard_normal(shrinkage.shape)
    return Draws(candidate, coefficients, sigma, (shrinkage * left_over + spread).mean(axis=1))
