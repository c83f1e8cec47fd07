"""Rows that someone has, held against rows that the theory knows."""

import numpy as np
import pytest

from loralaw.errors import InputError
from loralaw.theory import simulate
from loralaw.theory.arguments import Floats
from loralaw.theory.on_rows import fit_ridge, gaussian_setting, measure_on_rows, standardised

DIM = 40


def gaussian_rows(n: int, seed: int) -> tuple[Floats, Floats]:
    """Rows x = yμ + z with correlated z; the last two columns never vary and repeat the first."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat([-1.0, 1.0], n // 2))
    spread = rng.standard_normal((n, DIM)) * np.linspace(0.5, 1.5, DIM)
    rows = labels[:, None] * np.full(DIM, 1.2 / np.sqrt(DIM)) + spread
    return np.column_stack([rows, np.full(n, 0.1), rows[:, 0]]), labels


def test_columns_are_standardised_and_one_that_never_varies_is_nothing() -> None:
    rows = standardised(gaussian_rows(200, 0)[0] * 7 + 3)

    assert rows.mean(axis=0) == pytest.approx(0, abs=1e-12)
    assert rows[:, :DIM].std(axis=0) == pytest.approx(1)
    assert (rows[:, DIM] == 0).all()


def test_the_ridge_fit_solves_its_equation() -> None:
    rows, labels = gaussian_rows(60, 1)
    w = fit_ridge(rows, labels, 0.5)

    assert rows.T @ (rows @ w - labels) / 60 + 0.5 * w == pytest.approx(0, abs=1e-10)


def test_what_is_measured_is_what_the_theory_of_the_same_gaussians_says() -> None:
    source_rows, source_labels = gaussian_rows(400, 2)
    weights = fit_ridge(standardised(source_rows), source_labels, 1.0)
    rows, labels = gaussian_rows(4000, 3)
    rows = standardised(rows)
    alpha = [-2.0, 0.0, 1.0, 4.0]
    seen = measure_on_rows(weights, rows, labels, alpha, n_target=30, gamma_target=0.5, n_draws=150)
    setting = gaussian_setting(weights, rows, labels, n_target=30, gamma_target=0.5)

    assert seen.n_draws == 150
    assert np.abs(setting.predict(alpha).accuracy - seen.accuracy).max() < 0.01
    drawn = simulate(setting, alpha, n_replicates=150)
    errors = np.hypot(drawn.standard_error.accuracy, seen.standard_error)
    assert np.abs(drawn.estimate.accuracy - seen.accuracy).max() < 4 * errors.max()


def test_alpha_0_and_a_source_of_nothing_are_the_same() -> None:
    rows, labels = gaussian_rows(100, 4)
    how = {"n_target": 20, "n_draws": 5}
    with_source = measure_on_rows(np.ones(DIM + 2), rows, labels, [0.0], gamma_target=1.0, **how)
    without = measure_on_rows(np.zeros(DIM + 2), rows, labels, [3.0], gamma_target=1.0, **how)

    assert with_source.accuracy == pytest.approx(without.accuracy)


def test_rows_that_cannot_be_used_are_refused() -> None:
    rows, labels = gaussian_rows(20, 5)
    weights = np.ones(DIM + 2)
    with pytest.raises(InputError, match="n_target=20: give fewer than the 20 rows"):
        measure_on_rows(weights, rows, labels, [1.0], n_target=20, gamma_target=1.0)
    with pytest.raises(InputError, match="n_draws=1: give at least 2"):
        measure_on_rows(weights, rows, labels, [1.0], n_target=5, gamma_target=1.0, n_draws=1)
    with pytest.raises(InputError, match="weights has the shape"):
        measure_on_rows(weights[:3], rows, labels, [1.0], n_target=5, gamma_target=1.0)
    with pytest.raises(InputError, match="rows has 20 rows, which vary in 20 directions"):
        gaussian_setting(weights, rows, labels, n_target=5, gamma_target=1.0)  # fewer rows than a covariance takes
