"""The settings of the published figures on row scales.

**Source**: arXiv 2510.21345 and its public code. **Departs from source**: where a figure draws the maps of its
regression at random, their expected norms stand here; the settings of the figure of best row scales are ours, on the
paper's axes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from loralaw.theory.arguments import Floats
from loralaw.theory.binary_target import BinaryTarget
from loralaw.theory.fine_tuning import FineTuning, ridge_source
from loralaw.theory.known import KnownSource
from loralaw.theory.regression import Regression, regression
from loralaw.theory.ridge import RidgeSource

ACCURACY_BETAS = (0.2, 0.5, 0.9)
ACCURACY_ENDS = (-10.0, 10.0)
SCORE_BETAS = (0.3, 0.8)
SCORE_ROW_SCALES = (0.1, 1.0, 10.0)
AMAZON_PAIRS = (("dvd", "books"), ("books", "kitchen"), ("kitchen", "elec"))
"""Source and target, as the domains are named in the data; all rows of the source are used."""
AMAZON_ENDS = (-4.0, 4.0)
AMAZON_N_TARGET = 40
AMAZON_GAMMA_SOURCE = 2.0
AMAZON_GAMMA_TARGET = 0.1
REGRESSION_BETAS = (-2.0, 0.5, 2.0)
REGRESSION_ENDS = (-4.0, 4.0)


def accuracy_setting(beta: ArrayLike, n_target: ArrayLike = 40, gamma_target: ArrayLike = 0.1) -> FineTuning:
    """Accuracy against α."""
    return ridge_source(
        n_source=5000,
        n_target=n_target,
        dim=1000,
        mu_norm=0.8,
        mu_orth_norm=0.8,
        beta=beta,
        gamma_source=5.0,
        gamma_target=gamma_target,
    )


def score_setting(beta: float) -> FineTuning:
    """Scores of both classes against the Gaussians of the theory."""
    return ridge_source(
        n_source=5000,
        n_target=200,
        dim=400,
        mu_norm=1.5,
        mu_orth_norm=1.0,
        beta=beta,
        gamma_source=1.0,
        gamma_target=1.0,
    )


def regression_setting(beta: float) -> Regression:
    """W_t = βW_s + an orthogonal part, both of them with d·p independent entries of variance 1."""
    n_entries = 40.0 * 10
    return regression(
        n_target=20,
        dim=40,
        n_outputs=10,
        noise_std=0.5,
        gamma=0.01,
        source_norm_sq=n_entries,
        target_norm_sq=(beta**2 + 1) * n_entries,
        source_target_inner=beta * n_entries,
    )


@dataclass(frozen=True)
class BestRowScaleAxis:
    """One thing that the best row scale is followed along, the others as in `accuracy_setting(0.5)`."""

    name: str
    values: Floats
    ridge: Floats
    """Best α of the ridge source."""
    known: Floats
    """Best α of w̃ = μ/(‖μ‖² + 1 + γ̃), which is what the ridge source becomes of endlessly many rows."""


def best_row_scales() -> list[BestRowScaleAxis]:
    """Best α against β, n and γ, for a ridge source and a known one."""
    axes = {
        "beta": np.round(np.linspace(-1.0, 1.0, 41), 10),
        "n_target": np.unique(np.round(np.geomspace(10, 10_000, 41))),
        "gamma_target": np.geomspace(0.01, 100, 41),
    }
    return [BestRowScaleAxis(name, values, *_both_best(**{name: values})) for name, values in axes.items()]


def _both_best(beta: ArrayLike = 0.5, n_target: ArrayLike = 40, gamma_target: ArrayLike = 0.1) -> tuple[Floats, Floats]:
    ridge = accuracy_setting(beta, n_target, gamma_target)
    source, target = ridge.source, ridge.target
    assert isinstance(source, RidgeSource)
    assert isinstance(target, BinaryTarget)
    shrunk = source.mu_norm**2 / (source.mu_norm**2 + 1 + source.gamma_source)
    known = FineTuning(KnownSource((shrunk / source.mu_norm) ** 2, target.beta * shrunk), target)
    return np.asarray(ridge.best_row_scale().best), np.asarray(known.best_row_scale().best)
