"""The part of the posterior in closed form: a linear model with unknown noise and a random seed effect.

Given its exponents, a law is linear in its floor and amplitudes. Given two ratios of the noise (how it changes along
the axis, how much of it is shared by a seed) the model is conjugate: coefficients and noise integrate out. What is left
is a weight for each pair of a *candidate* (one design matrix: one choice of exponents) and a *noise model*.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Residuals below this share of the total are rounding: data without noise would otherwise divide by zero.
_SMALLEST_RESIDUAL = 1e-13


class NoiseModel(NamedTuple):
    """Noise with sd = σ·exp(slope·z), z from -1 to 1 along the axis, and a seed effect of variance seed_ratio·σ²."""

    slope: float
    seed_ratio: float
    prior: float


@dataclass(frozen=True)
class Observations:
    """Means of repeated values, one entry for each (size, seed).

    Args:
        mean: (n,) mean of the values.
        count: (n,) how many values.
        scatter: (n,) their sum of squares about the mean.
        seed: (n,) number of the seed, from 0; all 0 where no seed effect is modelled.
        position: (n,) z, from -1 at the first level to 1 at the last.
    """

    mean: Floats
    count: Floats
    scatter: Floats
    seed: NDArray[np.int64]
    position: Floats

    @property
    def n_values(self) -> int:
        return int(self.count.sum())


@dataclass(frozen=True)
class Conditionals:
    """Everything about coefficients and noise, given the candidate and the noise model.

    Args:
        log_weight: (n_models, n_candidates) log posterior weight, up to a constant.
        gram: (n_models, n_candidates, p, p) precision of the coefficients, in units of 1/σ².
        coefficients: (n_models, n_candidates, p) their mean.
        residual: (n_models, n_candidates) weighted residual sum of squares.
        shrinkage: (n_models, n_seeds) how much of a seed's mean residual is its own effect, over its weight.
        seed_total: (n_models, n_seeds) weighted sum of the values of each seed.
        seed_design: (n_models, n_candidates, p, n_seeds) weighted sum of the columns over each seed.
    """

    log_weight: Floats
    gram: Floats
    coefficients: Floats
    residual: Floats
    shrinkage: Floats
    seed_total: Floats
    seed_design: Floats


class Draws(NamedTuple):
    """Joint draws: candidate (n,), coefficients (n, p), and the mean effect of the seeds that were run (n,)."""

    candidate: NDArray[np.int64]
    coefficients: Floats
    seed_shift: Floats


def condition(designs: Floats, observations: Observations, noise_models: Sequence[NoiseModel]) -> Conditionals:
    """Integrate coefficients and noise out, for every candidate and noise model.

    With design X, weights w = count·exp(-2·slope·z) and P the precision of the noise (diag w, less the seed effect):
    G = X'PX, β = G⁻¹X'Py, rss = y'Py - β'Gβ, and the weight is
    prior · |P|^½ · |G|^(-½) · |G₀|^½ · rss^(-(n - p)/2), G₀ the G of equal noise without seed effect.
    The factor |G₀|^½ makes the flat prior on the coefficients flat in orthonormal coordinates; the noise has 1/σ².

    Args:
        designs: (n_candidates, p, n) columns of each candidate.
        observations: The data.
        noise_models: The noise models to sum over.

    **Source**: standard conjugate linear model; its use here is ours.
    """
    n_coefficients = designs.shape[1]
    flat = 0.5 * np.linalg.slogdet((designs * observations.count) @ np.swapaxes(designs, 1, 2))[1]
    parts = [_given_noise(designs, observations, model) for model in noise_models]
    gram, coefficients, residual, log_precision, shrinkage, seed_total, seed_design = (
        np.stack(part) for part in zip(*parts, strict=True)
    )
    log_weight = (
        np.log([model.prior for model in noise_models])[:, None]
        + log_precision[:, None] / 2
        - np.linalg.slogdet(gram)[1] / 2
        + flat
        - 0.5 * (observations.n_values - n_coefficients) * np.log(residual)
    )
    return Conditionals(log_weight, gram, coefficients, residual, shrinkage, seed_total, seed_design)


def _given_noise(designs: Floats, observations: Observations, model: NoiseModel) -> tuple[Floats | float, ...]:
    """G, β, rss, log |P|, shrinkage, seed totals and seed designs under one noise model."""
    relative = np.exp(-2 * model.slope * observations.position)
    weight = observations.count * relative
    indicator = np.eye(observations.seed.max() + 1)[observations.seed]
    seed_weight = weight @ indicator
    shrinkage = model.seed_ratio / (1 + model.seed_ratio * seed_weight)

    weighted = designs * weight
    seed_design = weighted @ indicator
    seed_total = (weight * observations.mean) @ indicator
    gram = weighted @ np.swapaxes(designs, 1, 2) - (seed_design * shrinkage) @ np.swapaxes(seed_design, 1, 2)
    moment = weighted @ observations.mean - seed_design @ (shrinkage * seed_total)
    total = float(weight @ observations.mean**2 + relative @ observations.scatter - shrinkage @ seed_total**2)
    coefficients = np.asarray(np.linalg.solve(gram, moment[..., None])[..., 0], dtype=np.float64)
    residual = np.maximum(total - (moment * coefficients).sum(axis=1), _SMALLEST_RESIDUAL * max(total, 1e-300))
    log_precision = float(observations.count @ np.log(relative) - np.log1p(model.seed_ratio * seed_weight).sum())
    return gram, coefficients, residual, log_precision, shrinkage, seed_total, seed_design


def draw(conditionals: Conditionals, n_values: int, n_draws: int, rng: np.random.Generator) -> Draws:
    """Joint draws of candidate, coefficients and seed shift.

    Args:
        conditionals: What `condition` returned.
        n_values: How many values the data hold.
        n_draws: How many draws.
        rng: Source of randomness.
    """
    c = conditionals
    n_candidates, n_coefficients = c.coefficients.shape[1:]
    cumulative = np.cumsum(np.exp(c.log_weight - c.log_weight.max()).ravel())
    picked = np.searchsorted(cumulative, rng.random(n_draws) * cumulative[-1], side="right")
    model, candidate = np.divmod(np.minimum(picked, cumulative.size - 1), n_candidates)

    sigma = np.sqrt(c.residual[model, candidate] / rng.chisquare(n_values - n_coefficients, n_draws))
    root = np.swapaxes(np.linalg.cholesky(c.gram[model, candidate]), 1, 2)
    noise = np.linalg.solve(root, rng.standard_normal((n_draws, n_coefficients, 1)))[..., 0]
    coefficients = c.coefficients[model, candidate] + sigma[:, None] * noise

    shrinkage = c.shrinkage[model]
    left_over = c.seed_total[model] - np.einsum("nps,np->ns", c.seed_design[model, candidate], coefficients)
    spread = sigma[:, None] * np.sqrt(shrinkage) * rng.standard_normal(shrinkage.shape)
    return Draws(candidate, coefficients, (shrinkage * left_over + spread).mean(axis=1))
