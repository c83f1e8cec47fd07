"""Gaussian pairs of known correlation: the two Gaussian estimators against the mutual information."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from repeated_estimate import RepeatedEstimate
from torch import Tensor

from loralaw.errors import InputError
from loralaw.miub import ESTIMATORS, Estimate

NAMES = ("gaussian_coordinate", "gaussian_noise")
RHOS = (0.0, 0.3, 0.6, 0.9, 0.99)
_MOST_PRODUCTS = 1e9
"""Tokens × d² of a sample beyond which the joint estimator, which needs d × d covariances, is left out."""
_CHUNK = 4096


@dataclass(frozen=True)
class GaussianCell:
    """Pairs of d coordinates, n_tokens of them; only equal coordinates depend on each other."""

    d: int
    n_tokens: int
    n_samples: int

    def samples_of(self, name: str) -> int:
        """Fewer for the joint estimator, whose every result costs d³."""
        if name == "gaussian_coordinate":
            return self.n_samples
        if self.n_tokens * self.d**2 > _MOST_PRODUCTS:
            return 0
        return max(5, min(self.n_samples, int(5e7 / self.d**3)))


@dataclass
class GaussianResult:
    """Estimates of one cell by estimator, one row a correlation, and why some were left out."""

    rows: dict[str, list[RepeatedEstimate]]
    left_out: dict[str, str]


def gaussian_cells(quick: bool) -> list[GaussianCell]:
    """Fewer samples where they are larger, but never fewer than 5."""
    numbers, most = (1e5, 50) if quick else (4e6, 100)
    return [
        GaussianCell(d, n, max(5, min(most, int(numbers / (n * d)))))
        for d in ((1, 8, 64) if quick else (1, 8, 64, 512))
        for n in ((100, 1_000) if quick else (100, 1_000, 10_000, 100_000))
    ]


def measure_gaussian(cell: GaussianCell) -> GaussianResult:
    """All estimators on the same samples; those of different ρ share their random numbers."""
    found: dict[tuple[str, float], list[Estimate]] = defaultdict(list)
    left_out = {name: "too long" for name in NAMES if not cell.samples_of(name)}
    for seed in range(cell.n_samples):
        names = [name for name in NAMES if name not in left_out and seed < cell.samples_of(name)]
        running = {(name, rho): ESTIMATORS[name]() for name in names for rho in RHOS}
        for z, noise in _chunks(cell, seed):
            for (_, rho), estimator in running.items():
                estimator.update(z, rho * z + math.sqrt(1 - rho**2) * noise)
        for (name, rho), estimator in running.items():
            try:
                found[name, rho].append(estimator.result())
            except InputError as error:
                left_out[name] = f"refused: {error}"
    rows: dict[str, list[RepeatedEstimate]] = defaultdict(list)
    for (name, rho), estimates in found.items():
        if name not in left_out:
            named = [str(cell.d), str(rho), f"{cell.n_tokens:,}"]
            rows[name].append(RepeatedEstimate(named, *_truth_and_target(name, cell.d, rho), estimates))
    return GaussianResult(rows, left_out)


def _truth_and_target(name: str, d: int, rho: float) -> tuple[float, float]:
    """Mutual information of a Gaussian pair: -log(1 - ρ²)/2; its contrastive log-ratio bound: ρ²/(1-ρ²)."""
    if name == "gaussian_coordinate":
        return -math.log1p(-(rho**2)) / 2, rho**2 / (1 - rho**2)
    noise = ESTIMATORS[name]().noise
    truth = -d * math.log1p(-(rho**2) / (1 + noise**2)) / 2
    return truth, truth


def _chunks(cell: GaussianCell, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    for begin in range(0, cell.n_tokens, _CHUNK):
        yield torch.randn(2, min(_CHUNK, cell.n_tokens - begin), cell.d, generator=generator).unbind()
