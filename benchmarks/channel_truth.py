"""Random categorical channels with an exact table: the channel estimators against the information of the population."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from repeated_estimate import RepeatedEstimate

from loralaw.miub import ESTIMATORS, Estimate

Array = NDArray[np.float64]
NAMES = ("channel", "channel_exact", "jsd", "jsd_standardised")
_LEAST_LOG = -100.0
"""Features are log p; a probability of 0 is exp(-100)."""


@dataclass(frozen=True)
class Population:
    """Token types, equally likely, each with a distribution p of X and q of Y over d outcomes."""

    name: str
    features: tuple[Array, Array]
    """log p and log q, (types, d)."""

    @cached_property
    def p_q(self) -> tuple[Array, Array]:
        return _softmax(self.features[0]), _softmax(self.features[1])

    @cached_property
    def joint(self) -> Array:
        """The exact table of X and Y, (d, d): the mean over types of p qᵀ."""
        p, q = self.p_q
        return p.T @ q / len(p)

    def truth(self, name: str) -> float:
        """What an estimate must not fall below: the exact I(X;Y) for both channel estimators, else its own value."""
        return self.target("channel_exact" if name == "channel" else name)

    def target(self, name: str) -> float:
        """The estimator's value on the whole population, from its definition."""
        p, q = self.p_q
        if name == "channel":
            return min(_entropy(x.mean(0)) - _entropy(x) for x in (p, q))
        if name == "channel_exact":
            return _entropy(self.joint.sum(1)) + _entropy(self.joint.sum(0)) - _entropy(self.joint.reshape(-1))
        if name == "jsd_standardised":
            p, q = (_softmax((x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)) for x in self.features)
        return _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2

    def expected_bias(self, name: str, n_tokens: int) -> float:
        """Of n independent tokens, to first order in 1/n: an entropy of estimated frequencies is too low by
        Σ variance / (2 n frequency)."""
        p, q = self.p_q
        if name == "channel":
            _, side = min((_entropy(x.mean(0)) - _entropy(x), i) for i, x in enumerate((p, q)))
            return -_loss(self.p_q[side].mean(0), np.square(self.p_q[side]).mean(0)) / n_tokens
        if name == "channel_exact":
            both = _loss(self.joint, np.square(p).T @ np.square(q) / len(p))
            apart = sum(_loss(x.mean(0), np.square(x).mean(0)) for x in (p, q))
            return (both - apart) / n_tokens
        return 0.0


def populations(quick: bool) -> list[Population]:
    """Types × outcomes; p and q are Dirichlet draws (a small concentration: nearly certain outcomes) or certain."""
    small = [
        _population("Dirichlet 1, Dirichlet 1", 16, 8, 1.0, 1.0),
        _population("Dirichlet .05, Dirichlet .05", 64, 64, 0.05, 0.05),
        _population("certain, Dirichlet 1", 64, 64, None, 1.0),
        _population("certain, certain", 64, 64, None, None),
    ]
    large = [
        _population("Dirichlet 1, Dirichlet 1", 64, 64, 1.0, 1.0),
        _population("Dirichlet 1, Dirichlet .05", 256, 64, 1.0, 0.05),
        _population("Dirichlet .05, Dirichlet .05", 1024, 256, 0.05, 0.05),
        _population("certain, Dirichlet .05", 256, 256, None, 0.05),
    ]
    return small if quick else small + large


def whole_population(population: Population) -> list[list[str]]:
    """Every type three times in a random order: an estimate is a plain sum and must be the exact value."""
    rows = []
    types = torch.arange(len(population.features[0])).repeat(3)
    types = types[torch.randperm(len(types), generator=torch.Generator().manual_seed(0))]
    for name in NAMES:
        value = _estimate(population, name, types).value_nats
        low, high = (0.0, math.log(2)) if name.startswith("jsd") else (population.truth(name), math.inf)
        rows.append(
            [
                population.name,
                name,
                f"{population.truth(name):.6f}",
                f"{population.target(name):.6f}",
                f"{value:.6f}",
                f"{abs(value - population.target(name)):.0e}",
                "yes" if low - 1e-9 <= value <= high + 1e-9 else "**no**",
            ]
        )
    return rows


def sampled(population: Population, n_tokens: int, n_samples: int) -> dict[str, RepeatedEstimate]:
    """Estimates from tokens drawn independently from the population."""
    draws = [_draw(len(population.features[0]), n_tokens, seed) for seed in range(n_samples)]
    return {
        name: RepeatedEstimate(
            [population.name, f"{n_tokens:,}", f"{population.expected_bias(name, n_tokens):+.2g}"],
            population.truth(name),
            population.target(name),
            [_estimate(population, name, types) for types in draws],
        )
        for name in NAMES
    }


def _estimate(population: Population, name: str, types: torch.Tensor) -> Estimate:
    estimator = ESTIMATORS[name]()
    z, u = (torch.from_numpy(x) for x in population.features)
    for part in types.split(4096):
        estimator.update(z[part], u[part])
    return estimator.result()


def _draw(n_types: int, n_tokens: int, seed: int) -> torch.Tensor:
    return torch.randint(n_types, (n_tokens,), generator=torch.Generator().manual_seed(seed))


def _population(name: str, types: int, d: int, p: float | None, q: float | None) -> Population:
    random = np.random.default_rng([types, d])
    sides = (_certain(types, d), _certain(types, d))
    drawn = [
        random.dirichlet([c] * d, types) if c is not None else certain for c, certain in zip((p, q), sides, strict=True)
    ]
    return Population(f"{types} × {d}: {name}", tuple(_logarithm(x) for x in drawn))


def _certain(types: int, d: int) -> Array:
    return np.eye(d)[np.arange(types) % d]


def _logarithm(p: Array) -> Array:
    return np.log(np.maximum(p, math.exp(_LEAST_LOG)))


def _softmax(features: Array) -> Array:
    weight = np.exp(features - features.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)


def _entropy(p: Array) -> float:
    """Mean over rows of -Σ p log p, nats."""
    terms = np.zeros_like(p)
    np.log(p, out=terms, where=p > 0)
    return float(-(p * terms).sum(-1).mean())


def _loss(frequency: Array, mean_square: Array) -> float:
    """Σ variance / (2 frequency): what n times an entropy of n-token frequencies is too low by."""
    seen = frequency > 1e-30
    return float(((mean_square[seen] - frequency[seen] ** 2) / frequency[seen]).sum() / 2)
